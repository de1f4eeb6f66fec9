"""Clone, branch and start, push: a developer's day."""
import json, os, re, signal, subprocess, time
from lab import PG15, size


def measure(lab, base, port):
    for turn in range(lab.options.repeat):
        repo = os.path.join(lab.work, "repo")
        users = subprocess.Popen([lab.options.neon, "-C", repo, "user", "add", f"me{turn}", "--password-stdin"], env=lab.env,
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        users.communicate("bench")
        server = subprocess.Popen([lab.options.neon, "-C", repo, "serve", "--listen", "127.0.0.1:56599"], env=lab.env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            one_turn(lab, base, port, f"postgresql://me{turn}@127.0.0.1:56599/repo")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def one_turn(lab, base, port, url):
    # Clone.
    clone = lab.fresh("cloned")
    lab.record("clone, seconds", "neon clone (loopback, SCRAM)", lab.timed(lab.options.neon, "clone", url, clone), "s")
    lab.start(base, port)
    backup = lab.fresh("backup")
    lab.record("clone, seconds", "pg_basebackup", lab.timed(PG15 + "pg_basebackup", "-p", str(port), "-D", backup, "-X", "stream", "-c", "fast"), "s")
    lab.stop(base)
    lab.fresh("backup")
    synced = lab.fresh("synced")
    lab.record("clone, seconds", "rsync -a", lab.timed("rsync", "-a", base + "/", synced), "s")

    # Branch and start, to the first answer.
    begin = time.monotonic()
    lab.neon("branch", "b", cwd=clone)
    lab.neon("start", "b", cwd=clone)
    lab.neon("psql", "b", "--", "-c", "select 1", cwd=clone)
    lab.record("branch and start, seconds", "neon branch + start + psql", time.monotonic() - begin, "s")
    lab.neon("stop", "b", cwd=clone)
    copy = lab.fresh("copy")
    begin = time.monotonic()
    lab.run("cp", "-a", base, copy)
    lab.start(copy, port)
    lab.psql(port, "select 1")
    lab.record("branch and start, seconds", "cp -a + pg_ctl start + psql", time.monotonic() - begin, "s")
    lab.stop(copy)

    # 1,000 transactions.
    restic = ["restic", "-r", lab.fresh("restic")]
    lab.run(*restic, "init", "-q", "--repository-version", "2")
    lab.run(*restic, "backup", "-q", copy)
    lab.run("rsync", "-a", "--delete", copy + "/", synced)
    lab.start(copy, port)
    before = lab.psql(port, "select pg_current_wal_insert_lsn()")
    lab.pgbench(port, "-t", "1000")
    wal = int(lab.psql(port, f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')"))
    lab.stop(copy)
    work = "1,000 transactions, bytes sent"
    lab.record(work, "raw WAL", wal, "B")
    told = lab.run(*restic, "backup", "--json", copy)
    lab.record(work, "restic backup", json.loads([line for line in told.splitlines() if '"summary"' in line][-1])["data_added"], "B")
    told = lab.run("rsync", "-a", "--no-whole-file", "--stats", copy + "/", synced)
    lab.record(work, "rsync (delta)", int(re.search(r"Total bytes sent: ([\d,]+)", told).group(1).replace(",", "")), "B")
    endpoint = lab.neon_json("start", "main", cwd=clone)
    lab.pgbench(str(endpoint["port"]), "-t", "1000", host=endpoint["socket_directory"])
    lab.neon("stop", "main", cwd=clone)
    begin = time.monotonic()
    pushed = lab.neon("--json", "push", "main", cwd=clone)
    lab.record("push of them, seconds", "neon push, whole command", time.monotonic() - begin, "s")
    lab.record(work, "neon push, on the wire", int(re.search(r"(\d+) bytes sent", pushed).group(1)), "B")
    for name in ("cloned", "copy", "synced", "restic"):
        lab.fresh(name)
