"""The history of 10 x 1,000 transactions, every LSN kept, full_page_writes on: what it takes on disk."""
import os, subprocess
from concurrent.futures import ThreadPoolExecutor
from lab import size

ROUNDS = 10


def pgbackrest(lab, pgdata, port):
    """Returns the beginning of pgbackrest's command line for that server, and the directory of its repository."""
    where = lab.fresh("pgbackrest")
    os.makedirs(where)
    path = os.path.join(where, "pgbackrest.conf")
    with open(path, "w") as file:
        file.write(f"[global]\nrepo1-path={where}/repo\nlog-path={where}\nlock-path={where}/lock\nspool-path={where}/spool\n"
                   f"compress-type=zst\nstart-fast=y\nlog-level-console=warn\n[bench]\npg1-path={pgdata}\npg1-port={port}\n"
                   f"pg1-socket-path={lab.work}\npg1-user=postgres\n")
    return ["pgbackrest", f"--config={path}", "--stanza=bench"], os.path.join(where, "repo")


def measure(lab, base, port):
    # What any tool needs that keeps every position: a start, and the log from there. Each round begins with a checkpoint,
    # so that its pages are in the log as full-page images.
    stock = lab.fresh("stock")
    lab.run("cp", "-a", base, stock)
    archive = lab.fresh("archive")
    os.makedirs(archive)
    backrest, backrest_repo = pgbackrest(lab, stock, port)
    command = " ".join(backrest)
    with open(os.path.join(stock, "postgresql.auto.conf"), "a") as file:
        file.write(f"archive_mode = on\narchive_command = 'cp %p {archive}/%f && {command} archive-push %p'\n")
    restic = ["restic", "-q", "-r", lab.fresh("restic")]
    lab.run(*restic, "init", "--repository-version", "2")
    lab.start(stock, port)
    lab.run(*backrest, "stanza-create")
    lab.run(*backrest, "--type=full", "backup")
    lab.run(*restic, "backup", stock)
    backrest_start, restic_start = size(backrest_repo), size(restic[3])
    raw = 0
    for turn in range(ROUNDS):
        lab.psql(port, "checkpoint")
        first = lab.psql(port, "select pg_current_wal_insert_lsn()")
        lab.pgbench(port, "-t", "1000", "--random-seed", str(turn))
        # Of records, not of segments: a switch to the next one leaves the rest of a segment empty.
        raw += int(lab.psql(port, f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{first}')"))
        lab.psql(port, "select pg_switch_wal()")
        lab.run(*backrest, "--type=incr", "backup")
        lab.run(*restic, "backup", stock)
    lab.stop(stock)
    work = "history of 10 x 1,000 transactions, bytes"
    lab.record(work, "raw WAL", raw, "B")
    segments = [os.path.join(archive, name) for name in os.listdir(archive) if "." not in name]
    for level in ("-3", "-19"):
        compressed = lambda path: len(subprocess.run(["zstd", "-qc", level, path], capture_output=True, check=True).stdout)
        with ThreadPoolExecutor() as pool:
            lab.record(work, f"WAL, each segment by zstd {level}", sum(pool.map(compressed, segments)), "B")
    lab.record(work, "pgBackRest: incremental backups and WAL", size(backrest_repo) - backrest_start, "B")
    lab.record(work, "restic: backups (no positions between)", size(restic[3]) - restic_start, "B")

    repo = lab.fresh("history")
    lab.neon("init", "--from", base, repo, cwd=lab.work)
    lab.neon("config", "set", "pagestore.seal_seconds", "5", cwd=repo)
    lab.neon("retention", "--keep-wal", "0B", cwd=repo)
    before = size(os.path.join(repo, ".neon", "objects"))
    endpoint = lab.neon_json("start", "main", cwd=repo)
    host, its_port = endpoint["socket_directory"], str(endpoint["port"])
    begun = lab.run("psql", "-h", host, "-p", its_port, "-XAtqc", "select pg_current_wal_insert_lsn()", "postgres").strip()
    for turn in range(ROUNDS):
        lab.run("psql", "-h", host, "-p", its_port, "-Xqc", "checkpoint", "postgres")
        lab.pgbench(its_port, "-t", "1000", "--random-seed", str(turn), host=host)
    ended = lab.run("psql", "-h", host, "-p", its_port, "-XAtqc", "select pg_current_wal_insert_lsn()", "postgres").strip()
    lab.neon("stop", "main", cwd=repo)
    lab.settle(repo)
    layers = size(os.path.join(repo, ".neon", "objects")) - before
    lab.record(work, "neon: layers", layers, "B")
    lsn = lambda text: (int(text.split("/")[0], 16) << 32) + int(text.split("/")[1], 16)
    lab.record(work, "(WAL of neon's own run)", lsn(ended) - lsn(begun), "B")
    left = sum(size(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(repo, ".neon", "timelines")) for f in files)
    lab.note(f"history: {left / 1e6:.1f} MB of raw WAL, state and ladders beside the layers")
    for name in ("stock", "archive", "pgbackrest", "restic", "history"):
        lab.fresh(name)
