"""The measuring behind tests/bench/run; it runs inside the sandbox (a workspace over HTTPS).

Wall times are medians of alternating runs, so that a machine's moods meet both sides alike.
Instructions are counted by callgrind. Peak memory is what GNU time says, the median of many
runs, since it depends on where the loader puts things.
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

STATIC, DYNAMIC = sys.argv[1:3]
HOME = pathlib.Path(os.environ["HOME"])
NULL = subprocess.DEVNULL

# A login shell's environment, not that of whatever runs this.
ENV = {
    name: value
    for name, value in os.environ.items()
    if re.match(r"(HOME|SSL_CERT_FILE|DATABRICKS_.*|PG.*)$", name)
} | {
    "LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "xterm", "USER": "me",
    "LOGNAME": "me", "SHELL": "/bin/bash", "PWD": str(HOME), "SHLVL": "1", "EDITOR": "vi",
    "XDG_RUNTIME_DIR": "/run/user/1000", "XDG_SESSION_ID": "1", "SSH_TTY": "/dev/pts/0",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus", "LESS": "-R", "PAGER": "less",
}


def run(command):
    subprocess.run(command, env=ENV, stdout=NULL, stderr=NULL, check=True)


def walls(commands, runs):
    """Median wall times of commands, run in turn."""
    times = [[] for _ in commands]
    for _ in range(runs):
        for command, kept in zip(commands, times):
            began = time.perf_counter()
            child = subprocess.Popen(command, env=ENV, stdout=NULL, stderr=NULL, close_fds=False)
            child.wait()
            kept.append(time.perf_counter() - began)
    return [statistics.median(kept) for kept in times]


def hyperfine(commands, rounds=40, runs=40):
    """Median wall times, without Python's own cost of starting a process, and the median of the
    rounds' ratios: on a noisy machine two commands are only alike within moments."""
    with tempfile.NamedTemporaryFile() as out:
        times = [[] for _ in commands]
        for _ in range(rounds):
            subprocess.run(
                ["hyperfine", "-N", "--warmup", "3", "--runs", str(runs), "--export-json",
                 out.name, *[" ".join(command) for command in commands]],
                env=ENV, stdout=NULL, stderr=NULL, check=True)
            for kept, result in zip(times, json.load(open(out.name))["results"]):
                kept.append(result["median"])
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*times))
    return [statistics.median(kept) for kept in times] + [ratio]


def instructions(command):
    said = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        env=ENV, stdout=NULL, stderr=subprocess.PIPE, text=True, check=True).stderr
    return int(re.search(r"refs:\s+([\d,]+)", said)[1].replace(",", ""))


def peak(command):
    # By GNU time, which is small itself: a child's peak starts with that of who forked it.
    kept = []
    for _ in range(25):
        said = subprocess.run(["/usr/bin/time", "-f", "%M", *command], env=ENV, stdout=NULL,
                              stderr=subprocess.PIPE, text=True, check=True).stderr
        kept.append(int(said.split()[-1]))
    return statistics.median(kept)


def system_calls(command):
    said = subprocess.run(["strace", "-f", *command], env=ENV, stdout=NULL,
                          stderr=subprocess.PIPE, text=True, check=True).stderr
    return len(re.findall(r"^(?:\[pid +\d+\] )?\w+\(", said, re.M))


def requests():
    context = __import__("ssl").create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    url = os.environ["DATABRICKS_HOST"] + "/sandbox/requests"
    return json.load(urllib.request.urlopen(url, context=context))


def row(what, ours, reference, unit, bound="", ratio=None):
    ratio = f"{ratio or ours / reference:.2f}"
    print(f"| {what} | {ours:,.0f} {unit} | {reference:,.0f} {unit} | {ratio} | {bound} |")


def rewriting(lines):
    """One line in the middle of a password file, by us and by sed, which does not sync."""
    ENV["PGPASSFILE"] = str(HOME / "many")
    many, old = HOME / "many", HOME / "old"
    ours = ":".join([ENV["PGHOST"], ENV["PGPORT"], ENV["PGDATABASE"], ENV["PGUSER"]])
    texts = [f"host{n}:5432:db:me:{'x' * 30}\n" for n in range(lines)]
    texts[lines // 2] = f"{ours}:{'y' * 1000}\n"
    old.write_text("".join(texts))
    old.chmod(0o600)
    sed = ["sed", "-i", f"s|^{ours}:.*|{ours}:{'z' * 1000}|", str(many)]
    times = [[], []]
    for _ in range(60):
        for command, kept in zip([[STATIC, "write", "pgpass"], sed], times):
            shutil.copy(old, many)
            began = time.perf_counter()
            run(command)
            kept.append(time.perf_counter() - began)
            assert b"yyyy" not in many.read_bytes()
    write, replaced = (statistics.median(kept) for kept in times)
    row(f"a line of {lines:,} replaced, against sed -i: wall", write * 1e6, replaced * 1e6, "µs", "2")
    del ENV["PGPASSFILE"]


def main():
    token = HOME / "token"
    print("| what | lakebase-token | reference | ratio | bound |")
    print("|---|---:|---:|---:|---:|")

    with open(token, "wb") as file:
        subprocess.run([STATIC], env=ENV, stdout=file, check=True)
    cat = ["/bin/cat", str(token)]
    for name, binary, bound in [("static", STATIC, True), ("dynamic", DYNAMIC, False)]:
        run([binary])
        wall, cats, ratio = hyperfine([[binary], cat])
        row(f"cached, {name}, against cat: wall", wall * 1e6, cats * 1e6, "µs",
            "0.5" if bound else "", ratio)
        row(f"cached, {name}: instructions", instructions([binary]), instructions(cat), "", "0.5" if bound else "")
        row(f"cached, {name}: peak memory", peak([binary]), peak(cat), "KiB", "1" if bound else "")
        row(f"cached, {name}: system calls", system_calls([binary]), system_calls(cat), "")
    executing, env, ratio = hyperfine([[STATIC, "exec", "--", "true"], ["env", "true"]])
    row("exec -- true against env true: wall", executing * 1e6, env * 1e6, "µs", "", ratio)

    # One curl, the same two requests over one connection; its bearer is had before.
    bearer = subprocess.run([STATIC, "--for", "workspace"], env=ENV, stdout=subprocess.PIPE,
                            text=True, check=True).stdout.strip()
    host, endpoint = ENV["DATABRICKS_HOST"], "projects/shop/branches/production/endpoints/primary"
    ENV["LAKEBASE_ENDPOINT"] = endpoint
    one = pathlib.Path(os.environ["SSL_CERT_FILE"])
    whole = HOME / "whole.pem"
    whole.write_bytes(one.read_bytes() + pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
    for name, store in [("one CA", one), ("the system's store", whole)]:
        ENV["SSL_CERT_FILE"] = str(store)
        tls = ["curl", "-sf", "--cacert", str(store)]
        curl = [
            *tls, "-u", f"{ENV['DATABRICKS_CLIENT_ID']}:{ENV['DATABRICKS_CLIENT_SECRET']}",
            "-d", "grant_type=client_credentials&scope=all-apis", f"{host}/oidc/v1/token", "--next",
            *tls[1:], "-H", f"Authorization: Bearer {bearer}", "-H", "Content-Type: application/json",
            "-d", json.dumps({"endpoint": endpoint}), f"{host}/api/2.0/postgres/credentials",
        ]
        mint = [STATIC, "--no-cache"]
        run(curl)
        requests()
        run(mint)
        assert requests() == 2
        wall, curls = walls([mint, curl], 150)
        row(f"a mint over TLS against curl, {name}: wall", wall * 1e6, curls * 1e6, "µs", "0.5")
        row(f"a mint over TLS, {name}: peak memory", peak(mint), 6 * 1024, "KiB", "6 MiB")
    ENV["SSL_CERT_FILE"] = str(one)

    shutil.rmtree(HOME / ".cache", ignore_errors=True)
    requests()
    began = time.perf_counter()
    children = [subprocess.Popen([STATIC], env=ENV, stdout=subprocess.PIPE) for _ in range(200)]
    answers = {child.communicate()[0] for child in children}
    herd = time.perf_counter() - began
    asked = requests()
    began = time.perf_counter()
    children = [subprocess.Popen([STATIC], env=ENV, stdout=subprocess.PIPE) for _ in range(200)]
    for child in children:
        child.communicate()
    cached = time.perf_counter() - began
    assert len(answers) == 1 and all(child.returncode == 0 for child in children)
    row(f"200 at once on an empty cache ({asked} requests, 1 answer), against 200 cached",
        herd * 1e3, cached * 1e3, "ms")
    for lines in [1_000, 10_000, 100_000]:
        rewriting(lines)
    row("size of the static artefact", os.path.getsize(STATIC) / 1000, 3000, "kB", "3 MB")


main()
