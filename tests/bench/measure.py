"""The measurements of tests/bench/run. It runs inside the sandbox (a workspace over HTTPS).

Wall times are medians of alternating runs, so that the machine's load affects both sides alike. callgrind
counts instructions. Peak memory comes from GNU time, as the median of many runs, since it depends on the
addresses that the loader chooses. Assertions check that each row measures what it says: the number of
requests, the number of answers and their content.
"""

import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

# The static build, the same with its functions in order (.ci/order), the build of `cargo install`, and a
# Python with Databricks' SDK (empty if it is not installed).
STATIC, PACKAGED, DYNAMIC, SDK = sys.argv[1:5]
HOME = pathlib.Path(os.environ["HOME"])
CACHE = HOME / ".cache/lakebase-token"
NULL = subprocess.DEVNULL
ENDPOINT = "projects/shop/branches/production/endpoints/primary"

# The environment of a login shell, not that of the caller.
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


def run(command, **more):
    return subprocess.run(command, env=ENV | more, stdout=subprocess.PIPE, stderr=NULL, check=True).stdout


def walls(commands, runs):
    """Returns the median wall times and CPU times of commands that run in turn."""
    times, cpus = [[] for _ in commands], [[] for _ in commands]
    for _ in range(runs):
        for command, wall_times, cpu_times in zip(commands, times, cpus):
            began = time.perf_counter()
            child = subprocess.Popen(command, env=ENV, stdout=NULL, stderr=NULL, close_fds=False)
            _, status, usage = os.wait4(child.pid, 0)
            wall_times.append(time.perf_counter() - began)
            cpu_times.append(usage.ru_utime + usage.ru_stime)
            assert status == 0, command

    return [[statistics.median(runs) for runs in all_runs] for all_runs in (times, cpus)]


def hyperfine(commands, more=None, rounds=40, runs=40):
    """Returns the median wall times, without Python's cost of starting a process, and the median ratio of
    all rounds: on a busy machine, two times are comparable only if they are measured shortly after each
    other. All commands run on one processor, so that the time in which another one wakes up is not measured."""
    times = [[] for _ in commands]
    with tempfile.NamedTemporaryFile() as out:
        for _ in range(rounds):
            for command, variables, medians in zip(commands, more or [{}] * len(commands), times):
                subprocess.run(
                    ["taskset", "-c", "1", "hyperfine", "-N", "--warmup", "3", "--runs", str(runs),
                     "--export-json", out.name, " ".join(command)],
                    env=ENV | variables, stdout=NULL, stderr=NULL, check=True)
                medians.append(json.load(open(out.name))["results"][0]["median"])

    ratio = statistics.median(ours / theirs for ours, theirs in zip(*times))
    return [statistics.median(medians) for medians in times] + [ratio]


def instructions(command):
    stderr = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        env=ENV, stdout=NULL, stderr=subprocess.PIPE, text=True, check=True).stderr
    return int(re.search(r"refs:\s+([\d,]+)", stderr)[1].replace(",", ""))


def peak(command):
    # With GNU time, which is small: a child's peak begins with the memory of its parent.
    peaks = []
    for _ in range(25):
        stderr = subprocess.run(["/usr/bin/time", "-f", "%M", *command], env=ENV, stdout=NULL,
                              stderr=subprocess.PIPE, text=True, check=True).stderr
        peaks.append(int(stderr.split()[-1]))
    return statistics.median(peaks)


def system_calls(command):
    stderr = subprocess.run(["strace", "-f", *command], env=ENV, stdout=NULL,
                          stderr=subprocess.PIPE, text=True, check=True).stderr
    return len(re.findall(r"^(?:\[pid +\d+\] )?\w+\(", stderr, re.M))


def sandbox(path):
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    url = f"{os.environ['DATABRICKS_HOST']}/sandbox/{path}"
    return json.load(urllib.request.urlopen(url, context=context))


def requests():
    """Returns the number of requests since the last call of this function."""
    return sandbox("requests")


def row(what, ours, reference, unit, bound="", ratio=None):
    ratio = ratio or ours / reference
    ratio = f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.4f}"
    print(f"| {what} | {ours:,.0f} {unit} | {reference:,.0f} {unit} | {ratio} | {bound} |", flush=True)


def cached():
    token = HOME / "token"
    builds = [
        ("static", STATIC, ["0.75", "1.1", "1.5", "0.7"]),
        ("packaged", PACKAGED, ["0.75", "1.1", "1", "0.7"]),
        ("dynamic", DYNAMIC, [""] * 4),
    ]
    for name, binary, bounds in builds:
        token.write_bytes(run([binary]))
        cat = ["/bin/cat", str(token)]
        wall, cats, ratio = hyperfine([[binary], cat])
        row(f"cached, {name}, against cat: wall", wall * 1e6, cats * 1e6, "µs", bounds[0], ratio)
        row(f"cached, {name}: instructions", instructions([binary]), instructions(cat), "", bounds[1])
        row(f"cached, {name}: peak memory", peak([binary]), peak(cat), "KiB", bounds[2])
        row(f"cached, {name}: system calls", system_calls([binary]), system_calls(cat), "", bounds[3])
    executing, env, ratio = hyperfine([[STATIC, "exec", "--", "true"], ["env", "true"]])
    row("exec -- true against env true: wall", executing * 1e6, env * 1e6, "µs", "1.3", ratio)


def profiles():
    """A configuration file with 50 profiles, of which the last one is used, against a file with one."""
    names = ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"]
    body = "".join(f"{name[11:].lower()} = {ENV[name]}\n" for name in names)
    removed = {name: ENV.pop(name) for name in names}
    files = []
    for others in [49, 0]:
        file = HOME / f"profiles-{others}"
        file.write_text("".join(f"[other-{n}]\n{body}\n" for n in range(others)) + f"[p]\n{body}")
        file.chmod(0o600)
        files.append({"DATABRICKS_CONFIG_FILE": str(file), "DATABRICKS_CONFIG_PROFILE": "p"})
    assert len({run([STATIC], **file) for file in files}) == 1
    fifty, one, ratio = hyperfine([[STATIC]] * 2, files)
    row("a configuration file of 50 profiles, against one: wall", fifty * 1e6, one * 1e6, "µs", "1.1", ratio)
    ENV.update(removed)


def other_entries():
    """10,000 entries in the cache folder that this call does not need."""
    run([STATIC])
    few = CACHE.with_name("few")
    shutil.copytree(CACHE, few)
    whole = next(path for path in CACHE.iterdir() if not path.suffix).read_bytes()
    for _ in range(10_000):
        entry = CACHE / f"{secrets.token_hex(8)}-{secrets.token_hex(8)}"
        entry.write_bytes(whole)
        entry.chmod(0o600)
    folders = [{"LAKEBASE_TOKEN_CACHE": str(path)} for path in [CACHE, few]]
    assert len({run([STATIC], **folder) for folder in folders}) == 1
    many, one, ratio = hyperfine([[STATIC]] * 2, folders)
    row("10,000 other entries in the cache, against none: wall", many * 1e6, one * 1e6, "µs", "1.1", ratio)
    shutil.rmtree(CACHE)
    few.rename(CACHE)


def mints():
    ENV["LAKEBASE_ENDPOINT"] = ENDPOINT
    bearer = run([STATIC, "--for", "workspace"]).decode().strip()
    one = pathlib.Path(os.environ["SSL_CERT_FILE"])
    whole = HOME / "whole.pem"
    whole.write_bytes(one.read_bytes() + pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())

    for name, store, bound in [("one CA", one, "0.4"), ("the system's store", whole, "0.25")]:
        against_curl(name, store, bound, bearer)
    ENV["SSL_CERT_FILE"] = str(one)

    # Of the cache, keep the workspace token only.
    for entry in CACHE.iterdir():
        if entry.is_file() and bearer not in entry.read_text():
            entry.unlink()
    requests()
    run([STATIC])
    row("a mint with a cached workspace token: requests", requests(), 1, "", "1")

    answer = HOME / "answer.json"
    answer.write_bytes(run([STATIC, "-f", "json"]))
    (ours, theirs), _ = walls([[STATIC], ["jq", "-r", ".token", str(answer)]], 40)
    row("cached, against jq reading a token from a file: wall", ours * 1e6, theirs * 1e6, "µs")
    if SDK:
        against_sdk(one)
    del ENV["LAKEBASE_ENDPOINT"]


def against_curl(name, store, bound, bearer):
    """A mint, against one curl that sends the same two requests over one connection."""
    ENV["SSL_CERT_FILE"] = str(store)
    host = ENV["DATABRICKS_HOST"]
    tls = ["curl", "-sf", "--cacert", str(store)]
    curl = [
        *tls, "-u", f"{ENV['DATABRICKS_CLIENT_ID']}:{ENV['DATABRICKS_CLIENT_SECRET']}",
        "-d", "grant_type=client_credentials&scope=all-apis", f"{host}/oidc/v1/token", "--next",
        *tls[1:], "-H", f"Authorization: Bearer {bearer}", "-H", "Content-Type: application/json",
        "-d", json.dumps({"endpoint": ENDPOINT}), f"{host}/api/2.0/postgres/credentials",
    ]
    mint = [STATIC, "--no-cache"]
    run(curl)
    requests()
    run(mint)
    assert requests() == 2

    (wall, curls), (cpu, curls_cpu) = walls([mint, curl], 150)
    row(f"a mint over TLS against curl, {name}: wall", wall * 1e6, curls * 1e6, "µs", bound)
    row(f"a mint over TLS against curl, {name}: CPU", cpu * 1e6, curls_cpu * 1e6, "µs", bound)
    row(f"a mint over TLS, {name}: peak memory", peak(mint), 5 * 1024, "KiB", "5 MiB")


def against_sdk(store):
    (ours, theirs), _ = walls([[STATIC], [SDK, "-c", "import requests"]], 20)
    row("cached, against python -c 'import requests': wall", ours * 1e6, theirs * 1e6, "µs")

    script = ("import databricks.sdk as d; "
              f"d.WorkspaceClient().postgres.generate_database_credential(endpoint='{ENDPOINT}')")
    # The HTTP library of the SDK reads this variable, not SSL_CERT_FILE.
    ENV["REQUESTS_CA_BUNDLE"] = str(store)
    (ours, theirs), _ = walls([[STATIC, "--no-cache"], [SDK, "-c", script]], 7)
    row("a mint, against Databricks' SDK for Python: wall", ours * 1e6, theirs * 1e6, "µs")
    del ENV["REQUESTS_CA_BUNDLE"]


def herd(count, *arguments):
    """Runs this many calls at once. Returns the time of all calls, the time of the slowest, and for each call
    its exit code and output."""
    children, began = {}, time.perf_counter()
    for _ in range(count):
        # A file, since a thousand pipes would have to be read while the calls run.
        out = tempfile.TemporaryFile()
        child = subprocess.Popen([STATIC, *arguments], env=ENV, stdout=out, stderr=subprocess.STDOUT)
        # Keep the object: Python would wait for the process of a deleted one.
        children[child.pid] = (time.perf_counter(), out, child)

    slowest, answers = 0, []
    for _ in range(count):
        pid, status = os.wait()
        start, out, _ = children[pid]
        slowest = max(slowest, time.perf_counter() - start)
        out.seek(0)
        answers.append((os.waitstatus_to_exitcode(status), out.read().decode()))
    return time.perf_counter() - began, slowest, answers


def herds(count=1000):
    what = f"{count:,} at once"
    shutil.rmtree(CACHE, ignore_errors=True)
    requests()
    total, _, answers = herd(count)
    minted = time.time()
    assert len(set(answers)) == 1 and answers[0][0] == 0, set(answers)
    token = answers[0][1].strip()

    # This includes the requests that resolve the host to its endpoint.
    sent = requests()
    reference, _, _ = herd(count)
    row(f"{what} on an empty cache ({sent} requests), against {count:,} cached", total * 1e3,
        reference * 1e3, "ms", "1.3")

    refused_herd(count, what)
    # A credential that was issued within the last minute satisfies every --min-ttl, so wait until it is older.
    time.sleep(max(0, minted + 62 - time.time()))
    herds_without_answers(count, what, token)


def refused_herd(count, what):
    right = ENV["DATABRICKS_CLIENT_SECRET"]
    ENV["DATABRICKS_CLIENT_SECRET"] = "wrong"
    total, _, answers = herd(count)
    ENV["DATABRICKS_CLIENT_SECRET"] = right
    assert all(code == 4 and "invalid_client" in output for code, output in answers)
    row(f"{what} on a workspace that refuses, each with the reason: requests in {total:.1f} s", requests(),
        1 + total // 3, "", "1")


def herds_without_answers(count, what, token):
    workspace = os.getppid()
    # A stopped workspace accepts connections, but sends no answer.
    os.kill(workspace, signal.SIGSTOP)
    try:
        _, slowest, answers = herd(count, "--min-ttl", "54m")
    finally:
        os.kill(workspace, signal.SIGCONT)
    assert all(code == 0 and token in output for code, output in answers), set(answers)
    waited = sum("note: " in output for _, output in answers)
    assert waited == 1, waited
    row(f"{what}, refresh early, with a workspace that hangs: the slowest (1 waits)", slowest * 1e3, 2500, "ms", "1")

    sandbox("down?seconds=60")
    _, slowest, answers = herd(count, "--min-ttl", "59m30s")
    sandbox("down?seconds=0")
    assert all(code == 0 and token in output for code, output in answers), set(answers)
    row(f"{what}, must refresh, with a workspace that is down: the slowest", slowest * 1e3, 2500, "ms", "1")


def rewriting(lines):
    """Replaces a line in the middle of a password file: lakebase-token, and sed, which does not sync the file."""
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
        for command, wall_times in zip([[STATIC, "write", "pgpass"], sed], times):
            shutil.copy(old, many)
            began = time.perf_counter()
            run(command)
            wall_times.append(time.perf_counter() - began)
            assert b"yyyy" not in many.read_bytes()

    write, replaced = (statistics.median(wall_times) for wall_times in times)
    row(f"a line of {lines:,} replaced, against sed -i: wall", write * 1e6, replaced * 1e6, "µs", "2")
    del ENV["PGPASSFILE"]


print("| what | lakebase-token | reference | ratio | bound |")
print("|---|---:|---:|---:|---:|")
cached()
profiles()
other_entries()
mints()
herds()
for lines in [1_000, 10_000, 100_000]:
    rewriting(lines)
row("size of the static build", os.path.getsize(STATIC) / 1000, 3600, "kB", "3.6 MB")
