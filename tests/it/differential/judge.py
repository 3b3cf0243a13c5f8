"""The official SDK for Python: reads environments from stdin, one JSON object a line, and prints what
it chooses, one JSON object a line. No request leaves this process: a stub answers all."""

import configparser
import json
import logging
import os
import pathlib
import sys
import time

import requests
import requests.adapters


def answer(_, request, **__):
    url = request.url.split("?")[0]
    token = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600, "expires_on": str(int(time.time()) + 3600)}
    status, body, location = 404, {}, None
    host = url.split("/")[2]
    if url.endswith("/.well-known/databricks-config"):
        status, body = 200, {"oidc_endpoint": f"https://{host}/oidc"}
    elif url.endswith("/.well-known/oauth-authorization-server"):
        root = f"https://{host}/oidc/v1/"
        status, body = 200, {"authorization_endpoint": root + "authorize", "token_endpoint": root + "token"}
    elif url.endswith("/aad/auth"):
        status, location = 302, "https://login.microsoftonline.com/tenant/oauth2/authorize"
    elif host.startswith("management."):
        status, body = 200, {"properties": {"workspaceUrl": "adb-42.6.azuredatabricks.net"}}
    elif url.endswith("/github"):
        status, body = 200, {"value": "a.b.c"}
    elif url.endswith("/oidctoken"):
        status, body = 200, {"oidcToken": "a.b.c"}
    elif host.startswith("localhost"):
        status, body = 200, token | {"expires_on": time.time() + 3600}
    elif "token" in url or "metadata" in url:
        status, body = 200, token
    response = requests.Response()
    response.status_code, response.url, response.request = status, request.url, request
    response._content = json.dumps(body).encode()
    response.headers["Content-Type"] = "application/json"
    if location:
        response.headers["Location"] = location
    return response


requests.adapters.HTTPAdapter.send = answer
logging.disable(logging.CRITICAL)

from databricks.sdk.core import Config  # noqa: E402

load_file = Config._known_file_config_loader
settings = {}


def load_file_and_remember(config):
    """Remembers the settings of environment and profile, before the SDK asks the host for more."""
    try:
        load_file(config)
    finally:
        settings.update(config._inner)


Config._known_file_config_loader = load_file_and_remember


def as_environment(environment):
    """The environment that says without a file what the SDK has read. A setting without a value is empty."""
    known = {attribute.env: attribute.name for attribute in Config.attributes() if attribute.env}
    # The SDK ignores this one.
    known["DATABRICKS_AZURE_LOGIN_APP_ID"] = ""
    said = {name: value for name, value in environment.items() if name not in known}
    for env, name in known.items():
        if name in settings and name not in ["profile", "config_file"]:
            value = settings[name]
            said[env] = "true" if value is True else str(value or "")
    return said


def is_refused(file):
    """Whether the parser of the standard library refuses the file, without the SDK."""
    try:
        configparser.ConfigParser().read(file)
        return False
    except configparser.Error:
        return True


def values(config):
    """What the chosen method sends, as far as it comes from a setting."""
    names = {
        "pat": ["token"],
        "oauth-m2m": ["client_id", "client_secret"],
        "azure-client-secret": ["azure_client_id", "azure_client_secret"],
        "metadata-service": ["metadata_service_url"],
    } | {f"{kind}-oidc": ["client_id"] for kind in ["github", "azure-devops", "env", "file"]}
    return "|".join(getattr(config, name) or "" for name in names.get(config.auth_type, []))


for line in sys.stdin:
    environment = json.loads(line)
    os.environ.clear()
    os.environ.update(environment["env"])
    file = pathlib.Path(environment["home"]) / ".databrickscfg"
    file.unlink(missing_ok=True)
    if environment["file"] is not None:
        file.write_bytes(environment["file"].encode())
    verdict = dict.fromkeys(["host", "auth_type", "error", "values", "profile", "workspace_id"], "")
    settings.clear()
    try:
        config = Config()
        config.authenticate()
        verdict["host"], verdict["auth_type"] = config.host or "", config.auth_type or ""
        verdict["values"] = values(config)
        verdict["profile"], verdict["workspace_id"] = config.profile or "", config.workspace_id or ""
    except Exception as error:
        verdict["error"] = f"{type(error).__name__}: {error}"
    verdict["is_refused"] = is_refused(os.environ.get("DATABRICKS_CONFIG_FILE") or file)
    verdict["read"] = as_environment(environment["env"])
    print(json.dumps(verdict), flush=True)
