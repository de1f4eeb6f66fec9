#!/usr/bin/env python3
"""neon against real peers, in one run on one machine: import, clone, branch + start, bytes pushed after 1,000 transactions.

Every figure is the median of --repeat runs; runs of neon and of its peers alternate, so that a slow minute hits both. Data are
pgbench's, with the filler columns overwritten by random text, because blanks flatter whoever compresses.
"""
import argparse, datetime, json, os, platform, re, shutil, signal, statistics, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--neon", required=True)
parser.add_argument("--work", required=True)
parser.add_argument("--commit", default="unknown")
parser.add_argument("--scale", type=int, default=50)
parser.add_argument("--repeat", type=int, default=3)
parser.add_argument("--json", default=None)
parser.add_argument("--port", type=int, default=56543)
options = parser.parse_args()
PG = "/usr/lib/postgresql/15/bin/"
WORK = options.work
shutil.rmtree(WORK, ignore_errors=True)
os.makedirs(WORK)
env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
env.update(PGPASSWORD="bench", RESTIC_PASSWORD="bench", NEON_PG_DIRS=PG)
started = []


def run(*command, cwd=WORK, check=True, **more):
    result = subprocess.run(command, cwd=cwd, env=env, check=False, text=True, capture_output=True, **more)
    if check and result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def neon(*arguments, cwd=WORK):
    return run(options.neon, *arguments, cwd=cwd)


def timed(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def size(path):
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(path) for f in files)


def psql(port, sql):
    return run("psql", "-h", WORK, "-p", str(port), "-U", "postgres", "-XAtc", sql, "postgres").strip()


def start(pgdata, port):
    run(PG + "pg_ctl", "-D", pgdata, "-w", "-l", pgdata + ".log", "-o",
        f"-p {port} -c listen_addresses='' -c unix_socket_directories={WORK} -c max_wal_size=4GB", "start")
    started.append(pgdata)


def stop(pgdata):
    run(PG + "pg_ctl", "-D", pgdata, "-w", "-m", "fast", "stop")
    started.remove(pgdata)


def fresh(name):
    path = os.path.join(WORK, name)
    shutil.rmtree(path, ignore_errors=True)
    return path


results = {}


def record(work, who, value, unit):
    results.setdefault(work, {}).setdefault(who, {"unit": unit, "runs": []})["runs"].append(value)
    print(f"  {work:34} {who:24} {value:14,.3f} {unit}", flush=True)


def clean_up():
    for pgdata in list(started):
        subprocess.run([PG + "pg_ctl", "-D", pgdata, "-m", "immediate", "stop"], env=env, capture_output=True)
    for name in os.listdir(WORK):
        if os.path.isdir(os.path.join(WORK, name, ".neon")):
            subprocess.run([options.neon, "-C", os.path.join(WORK, name), "stop", "--all"], env=env, capture_output=True)
    if server:
        server.send_signal(signal.SIGTERM)
        server.wait()


server = None
try:
    base = os.path.join(WORK, "base")
    run(PG + "initdb", "-D", base, "-U", "postgres", "-k", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    start(base, options.port)
    run(PG + "pgbench", "-i", "-q", "-s", str(options.scale), "-h", WORK, "-p", str(options.port), "-U", "postgres", "postgres")
    psql(options.port, "update pgbench_accounts set filler = md5(aid::text) || md5((aid * 7)::text)")
    psql(options.port, "vacuum full pgbench_accounts")
    psql(options.port, "checkpoint")
    stop(base)
    data = size(base) - size(os.path.join(base, "pg_wal"))
    print(f"data directory: {data / 1e6:,.0f} MB without pg_wal", flush=True)

    for turn in range(options.repeat):
        print(f"run {turn + 1} of {options.repeat}", flush=True)
        # Import.
        repo = fresh("repo")
        record("import, seconds", "neon init --from", timed(lambda: neon("init", "--from", base, repo)), "s")
        record("import, bytes", "neon init --from", size(os.path.join(repo, ".neon")), "B")
        start(base, options.port)
        backup = fresh("backup")
        record("import, seconds", "pg_basebackup", timed(lambda: run(
            PG + "pg_basebackup", "-h", WORK, "-p", str(options.port), "-U", "postgres", "-D", backup, "-X", "stream", "-c", "fast")), "s")
        record("import, bytes", "pg_basebackup", size(backup), "B")

        # Clone.
        users = subprocess.Popen([options.neon, "-C", repo, "user", "add", "me", "--password-stdin"], env=env, stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, text=True)
        users.communicate("bench")
        server = subprocess.Popen([options.neon, "-C", repo, "serve", "--listen", "127.0.0.1:56599"], env=env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        copy = fresh("copy")
        record("clone, seconds", "neon clone", timed(lambda: neon("clone", "postgresql://me@127.0.0.1:56599/repo", copy)), "s")
        backup = fresh("backup")
        record("clone, seconds", "pg_basebackup", timed(lambda: run(
            PG + "pg_basebackup", "-h", WORK, "-p", str(options.port), "-U", "postgres", "-D", backup, "-X", "stream", "-c", "fast")), "s")
        stop(base)
        synced = fresh("synced")
        record("clone, seconds", "rsync -a", timed(lambda: run("rsync", "-a", base + "/", synced)), "s")

        # Branch + start, to the first answer.
        neon("branch", "b1", cwd=copy)
        branch = json.loads(neon("--json", "branch", cwd=copy))
        record("branch, seconds", "neon branch", timed(lambda: neon("branch", "b2", cwd=copy)), "s")
        record("branch + start, seconds", "neon branch + start",
               timed(lambda: (neon("branch", "b3", cwd=copy), neon("start", "b3", cwd=copy),
                              neon("psql", "b3", "--", "-c", "select 1", cwd=copy))), "s")
        neon("stop", "b3", cwd=copy)
        clone = fresh("clone")
        record("branch + start, seconds", "cp -a + pg_ctl start",
               timed(lambda: (run("cp", "-a", base, clone), start(clone, options.port + 1), psql(options.port + 1, "select 1"))), "s")
        stop(clone)

        # Bytes after 1,000 transactions.
        state = fresh("restic")
        run("restic", "init", "-q", "-r", state)
        run("restic", "backup", "-q", "-r", state, clone)
        run("rsync", "-a", "--delete", clone + "/", synced)
        start(clone, options.port + 1)
        before = psql(options.port + 1, "select pg_current_wal_insert_lsn()")
        bench = ["-n", "-t", "1000", "-U", "postgres"]
        run(PG + "pgbench", *bench, "-h", WORK, "-p", str(options.port + 1), "postgres")
        wal = int(psql(options.port + 1, f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')"))
        stop(clone)
        record("1,000 transactions, bytes", "raw WAL", wal, "B")
        told = run("restic", "backup", "--json", "-r", state, clone)
        summary = json.loads([line for line in told.splitlines() if '"summary"' in line][-1])
        record("1,000 transactions, bytes", "restic backup", summary["data_added"], "B")
        told = run("rsync", "-a", "--no-whole-file", "--stats", clone + "/", synced)
        record("1,000 transactions, bytes", "rsync (delta)", int(re.search(r"Total bytes sent: ([\d,]+)", told).group(1).replace(",", "")), "B")
        endpoint = json.loads(neon("--json", "start", "main", cwd=copy))
        endpoint = endpoint.get("value", endpoint)
        neon("psql", "main", "--", "-qc", "select 1", cwd=copy)
        run(PG + "pgbench", *bench, "-h", endpoint["socket_directory"], "-p", str(endpoint["port"]), "postgres")
        neon("stop", "main", cwd=copy)
        begin = time.monotonic()
        pushed = neon("--json", "push", "main", cwd=copy)
        record("push of them, seconds", "neon push", time.monotonic() - begin, "s")
        sent = int(re.search(r"(\d+) bytes sent", pushed).group(1))
        record("1,000 transactions, bytes", "neon push (wire)", sent, "B")
        server.send_signal(signal.SIGTERM)
        server.wait()
        server = None
finally:
    clean_up()

print("\n| work | who | median | ratio to neon |\n|---|---|---|---|")
report = {"date": datetime.date.today().isoformat(), "commit": options.commit, "scale": options.scale, "repeat": options.repeat,
          "data_bytes": data, "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "arch": platform.machine()}, "results": {}}
for work, rows in results.items():
    medians = {who: statistics.median(row["runs"]) for who, row in rows.items()}
    own = next((value for who, value in medians.items() if who.startswith("neon")), None)
    for who, value in medians.items():
        shown = f"{value:.3f} s" if rows[who]["unit"] == "s" else f"{value / 1e6:,.2f} MB"
        ratio = "" if who.startswith("neon") or not own else f"{value / own:.2f}"
        print(f"| {work} | {who} | {shown} | {ratio} |")
    report["results"][work] = {who: {"median": medians[who], **row} for who, row in rows.items()}
if options.json:
    with open(options.json, "w") as file:
        json.dump(report, file, indent=1)
else:
    print(json.dumps(report))
