"""The official SDK for Python: logs a person in at DATABRICKS_HOST, with a browser that follows each
redirection, and refreshes the login."""

import os
import socket
import threading
import urllib.request
import webbrowser

from databricks.sdk import oauth

urls = []
webbrowser.open_new = urls.append


class Listening(oauth.HTTPServer):
    """The SDK opens the browser before it listens. This one is opened after it."""

    def server_activate(self):
        super().server_activate()
        threading.Thread(target=urllib.request.urlopen, args=[urls.pop()]).start()


def free_port():
    for port in range(8020, 8041):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) != 0:
                return port
    raise SystemExit("no port is free")


oauth.HTTPServer = Listening


def log_in():
    client = oauth.OAuthClient(
        oidc_endpoints=oauth.get_workspace_endpoints(os.environ["DATABRICKS_HOST"]),
        redirect_url=f"http://localhost:{free_port()}",
        client_id="databricks-cli",
        scopes=["all-apis", "offline_access"],
    )
    while True:
        try:
            return client.initiate_consent().launch_external_browser()
        except OSError:
            # Another test has taken the port meanwhile.
            urls.clear()
            client.redirect_url = f"http://localhost:{free_port()}"


login = log_in()
first = login.token().access_token
second = login.refresh().access_token
assert first != second
