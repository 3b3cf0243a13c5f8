"""The measuring behind tests/bench/run; it runs inside the sandbox (a workspace over HTTPS).

Wall times are medians of alternating runs, so that a machine's moods meet both sides alike.
Instructions are counted by callgrind. Peak memory is what GNU time says, the median of many
runs, since it depends on where the loader puts things. Each row is asserted to measure what it
says: how many requests, how many answers, whose.
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

# The two builds, and a Python that has Databricks' SDK, or nothing.
STATIC, DYNAMIC, SDK = sys.argv[1:4]
HOME = pathlib.Path(os.environ["HOME"])
CACHE = HOME / ".cache/lakebase-token"
NULL = subprocess.DEVNULL
ENDPOINT = "projects/shop/branches/production/endpoints/primary"

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


def run(command, **more):
    return subprocess.run(command, env=ENV | more, stdout=subprocess.PIPE, stderr=NULL, check=True).stdout


def walls(commands, runs):
    """Median wall and CPU times of commands, run in turn."""
    times, cpus = [[] for _ in commands], [[] for _ in commands]
    for _ in range(runs):
        for command, kept, spent in zip(commands, times, cpus):
            began = time.perf_counter()
            child = subprocess.Popen(command, env=ENV, stdout=NULL, stderr=NULL, close_fds=False)
            _, status, usage = os.wait4(child.pid, 0)
            kept.append(time.perf_counter() - began)
            spent.append(usage.ru_utime + usage.ru_stime)
            assert status == 0, command
    return [[statistics.median(kept) for kept in all_kept] for all_kept in (times, cpus)]


def hyperfine(commands, more=None, rounds=40, runs=40):
    """Median wall times, without Python's own cost of starting a process, and the median of the
    rounds' ratios: on a noisy machine two commands are only alike within moments. All on one
    processor, or it would be measured how long another one takes to wake up."""
    times = [[] for _ in commands]
    with tempfile.NamedTemporaryFile() as out:
        for _ in range(rounds):
            for command, variables, kept in zip(commands, more or [{}] * len(commands), times):
                subprocess.run(
                    ["taskset", "-c", "1", "hyperfine", "-N", "--warmup", "3", "--runs", str(runs),
                     "--export-json", out.name, " ".join(command)],
                    env=ENV | variables, stdout=NULL, stderr=NULL, check=True)
                kept.append(json.load(open(out.name))["results"][0]["median"])
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


def sandbox(path):
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    url = f"{os.environ['DATABRICKS_HOST']}/sandbox/{path}"
    return json.load(urllib.request.urlopen(url, context=context))


def requests():
    """How many since this was last asked."""
    return sandbox("requests")


def row(what, ours, reference, unit, bound="", ratio=None):
    ratio = ratio or ours / reference
    ratio = f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.4f}"
    print(f"| {what} | {ours:,.0f} {unit} | {reference:,.0f} {unit} | {ratio} | {bound} |", flush=True)


def cached():
    token = HOME / "token"
    for name, binary, bounds in [("static", STATIC, ["0.4", "0.3", "0.7", "0.5"]), ("dynamic", DYNAMIC, [""] * 4)]:
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
    """A configuration file of 50 sections, of which the last one counts, against one of one."""
    names = ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"]
    body = "".join(f"{name[11:].lower()} = {ENV[name]}\n" for name in names)
    kept = {name: ENV.pop(name) for name in names}
    files = []
    for others in [49, 0]:
        file = HOME / f"profiles-{others}"
        file.write_text("".join(f"[other-{n}]\n{body}\n" for n in range(others)) + f"[p]\n{body}")
        file.chmod(0o600)
        files.append({"DATABRICKS_CONFIG_FILE": str(file), "DATABRICKS_CONFIG_PROFILE": "p"})
    assert len({run([STATIC], **file) for file in files}) == 1
    fifty, one, ratio = hyperfine([[STATIC]] * 2, files)
    row("a configuration file of 50 profiles, against one: wall", fifty * 1e6, one * 1e6, "µs", "1.1", ratio)
    ENV.update(kept)


def many_keys():
    """10,000 entries of others in the cache's folder."""
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
    row("10,000 keys in the cache, against one's own: wall", many * 1e6, one * 1e6, "µs", "1.1", ratio)
    shutil.rmtree(CACHE)
    few.rename(CACHE)


def mints():
    # One curl, the same two requests over one connection; its bearer is had before.
    bearer = run([STATIC, "--for", "workspace"]).decode().strip()
    host = ENV["DATABRICKS_HOST"]
    ENV["LAKEBASE_ENDPOINT"] = ENDPOINT
    one = pathlib.Path(os.environ["SSL_CERT_FILE"])
    whole = HOME / "whole.pem"
    whole.write_bytes(one.read_bytes() + pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
    for name, store, bound in [("one CA", one, "0.4"), ("the system's store", whole, "0.25")]:
        ENV["SSL_CERT_FILE"] = str(store)
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
    ENV["SSL_CERT_FILE"] = str(one)
    for entry in CACHE.iterdir():
        if entry.is_file() and entry.read_text().find(bearer) < 0:
            entry.unlink()
    requests()
    run([STATIC])
    row("a mint while the workspace token lives: requests", requests(), 1, "", "1")
    answer = HOME / "answer.json"
    answer.write_bytes(run([STATIC, "-f", "json"]))
    (ours, theirs), _ = walls([[STATIC], ["jq", "-r", ".token", str(answer)]], 40)
    row("cached, against jq reading a token from a file: wall", ours * 1e6, theirs * 1e6, "µs")
    if SDK:
        (ours, theirs), _ = walls([[STATIC], [SDK, "-c", "import requests"]], 20)
        row("cached, against python -c 'import requests': wall", ours * 1e6, theirs * 1e6, "µs")
        script = f"import databricks.sdk as d; d.WorkspaceClient().postgres.generate_database_credential(endpoint='{ENDPOINT}')"
        # It trusts the stores that its own library is told of.
        ENV["REQUESTS_CA_BUNDLE"] = str(one)
        (ours, theirs), _ = walls([[STATIC, "--no-cache"], [SDK, "-c", script]], 7)
        row("a mint, against Databricks' SDK for Python: wall", ours * 1e6, theirs * 1e6, "µs")
        del ENV["REQUESTS_CA_BUNDLE"]
    del ENV["LAKEBASE_ENDPOINT"]


def herd(count, *arguments):
    """So many at once: how long all took and the slowest one, and each one's exit code and words."""
    children, began = {}, time.perf_counter()
    for _ in range(count):
        # A file, since nobody reads a thousand pipes meanwhile.
        out = tempfile.TemporaryFile()
        child = subprocess.Popen([STATIC, *arguments], env=ENV, stdout=out, stderr=subprocess.STDOUT)
        # The object is kept, or Python would wait for its process as well.
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
    asked, token = requests(), answers[0][1].strip()
    # The endpoint that the host belongs to is looked up, too.
    reference, _, _ = herd(count)
    row(f"{what} on an empty cache ({asked} requests), against {count:,} cached", total * 1e3,
        reference * 1e3, "ms", "1.3")

    right = ENV["DATABRICKS_CLIENT_SECRET"]
    ENV["DATABRICKS_CLIENT_SECRET"] = "wrong"
    total, _, answers = herd(count)
    ENV["DATABRICKS_CLIENT_SECRET"] = right
    assert all(code == 4 and "invalid_client" in said for code, said in answers)
    row(f"{what} on a refusing workspace, all told why: requests in {total:.1f} s", requests(),
        1 + total // 3, "", "1")

    # One that is a minute old is fresh for who asks for no more than the usual life; these ask for more.
    time.sleep(max(0, minted + 62 - time.time()))
    os.kill(os.getppid(), signal.SIGSTOP)  # the workspace: it hears and answers nothing
    try:
        _, slowest, answers = herd(count, "--min-ttl", "54m")
    finally:
        os.kill(os.getppid(), signal.SIGCONT)
    assert all(code == 0 and token in said for code, said in answers), set(answers)
    waited = sum("note: " in said for _, said in answers)
    assert waited == 1, waited
    row(f"{what}, to be renewed soon, of a workspace that hangs: the slowest (1 waits)", slowest * 1e3, 2500, "ms", "1")
    sandbox("down?seconds=60")
    _, slowest, answers = herd(count, "--min-ttl", "59m30s")
    sandbox("down?seconds=0")
    assert all(code == 0 and token in said for code, said in answers), set(answers)
    row(f"{what}, to be renewed now, of a workspace that is down: the slowest", slowest * 1e3, 2500, "ms", "1")


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


print("| what | lakebase-token | reference | ratio | bound |")
print("|---|---:|---:|---:|---:|")
cached()
profiles()
many_keys()
mints()
herds()
for lines in [1_000, 10_000, 100_000]:
    rewriting(lines)
row("size of the static artefact", os.path.getsize(STATIC) / 1000, 3000, "kB", "3 MB")
