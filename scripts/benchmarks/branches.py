"""A branch among few and among 10,000; peers that share blocks of files."""
import os, time
from lab import PG15, shares

MANY = 10_000


def some(lab, repo, prefix, count, *rev):
    """Makes branches; returns the seconds of each command."""
    return [lab.timed(lab.options.neon, "branch", f"{prefix}{number}", *rev, cwd=repo) for number in range(count)]


def told(lab, who, seconds):
    half, nearly_all = shares(seconds, 50, 99)
    lab.record("branch, ms (p50)", who, half * 1e3, "ms")
    lab.record("branch, ms (p99)", who, nearly_all * 1e3, "ms")


def measure(lab, base):
    """While an endpoint runs, so that a daemon answers, as in a developer's day."""
    repo = lab.fresh("branches")
    lab.neon("init", "--from", base, repo, cwd=lab.work)
    lab.neon("start", "main", cwd=repo)
    some(lab, repo, "first", 3)
    lab.neon("tag", "v1", cwd=repo)
    told(lab, "neon branch, whole command, of few", some(lab, repo, "few", 200))
    told(lab, "neon branch of a tag, no server is asked, of few", some(lab, repo, "tagged", 200, "v1"))
    some(lab, repo, "many", MANY - 400)
    told(lab, f"neon branch, whole command, of {MANY:,}", some(lab, repo, "last", 200))
    told(lab, f"neon branch of a tag, no server is asked, of {MANY:,}", some(lab, repo, "tagged-last", 200, "v1"))
    nothing = [lab.timed(lab.options.neon, "--version") for _ in range(200)]
    told(lab, "(neon --version, to start a process)", nothing)
    lab.record("list of 10,000 branches, seconds", "neon branch", lab.timed(lab.options.neon, "branch", cwd=repo), "s")
    lab.neon("stop", "--all", cwd=repo)
    lab.fresh("branches")


def peers(lab, port, scale):
    """Postgres 18 and cp on XFS; nothing is measured where there is no such file system."""
    xfs, server = lab.options.xfs, lab.options.postgres18
    if not (xfs and server):
        lab.note("branch: no XFS, so no peers that share blocks")
        return
    pgdata = os.path.join(xfs, "pg18")
    lab.run(server + "initdb", "-D", pgdata, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    lab.start(pgdata, port, "file_copy_method=clone", "max_wal_size=16GB", bin=server)
    lab.psql(port, "create database origin")
    lab.run(PG15 + "pgbench", "-i", "-q", "-s", str(scale), "-p", str(port), "origin")
    lab.psql(port, "checkpoint")
    for number in range(10):
        begin = time.monotonic()
        lab.psql(port, f"create database copy{number} template origin strategy file_copy")
        lab.record("branch, ms (p50)", "Postgres 18, file_copy_method=clone, XFS", (time.monotonic() - begin) * 1e3, "ms")
    lab.stop(pgdata)
    for number in range(5):
        seconds = lab.timed("cp", "-a", "--reflink=always", os.path.join(pgdata, "base"), os.path.join(xfs, f"copy{number}"))
        lab.record("branch, ms (p50)", "cp -a --reflink of base/ (11 databases)", seconds * 1e3, "ms")
        lab.run("rm", "-r", os.path.join(xfs, f"copy{number}"))
    lab.run("rm", "-r", pgdata)
