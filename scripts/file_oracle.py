#!/usr/bin/env python3
"""A history against stock Postgres: point-in-time recoveries of its WAL to random positions, compared with what neon has there.

A repository is made, its endpoint runs the regression suite of Postgres and a mixed workload beside it; the endpoint's own pg_wal, kept
whole, is the archive. At each position a stock server recovers a copy of the first data directory and is promoted.
  files     `neon dev compare`: every file of the recovered directory against the position
  branches  a branch is made and started there: pg_amcheck of every table and index that it can check, pg_dumpall of both servers
"""
import argparse, difflib, glob, json, os, random, re, shutil, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--neon", required=True)
parser.add_argument("--pg", required=True, help="an installation with client programs: PREFIX with bin/")
parser.add_argument("--regress", help="src/test/regress of a built source tree; only the mixed workload without")
parser.add_argument("--work", required=True)
parser.add_argument("--files", type=int, default=10, help="positions to compare files at")
parser.add_argument("--branches", type=int, default=5, help="positions to start a branch at")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--port", type=int, default=23100)
parser.add_argument("--keep", action="store_true", help="take the run that is in --work")
parser.add_argument("--at", action="append", default=[], help="a position instead of random ones")
options = parser.parse_args()
WORK, BIN = options.work, os.path.join(options.pg, "bin")
REPO, BASE, ARCHIVE, SOCKETS = (os.path.join(WORK, name) for name in ("repo", "base", "archive", "s"))
FACTS = os.path.join(WORK, "run.json")
env = {k: v for k, v in os.environ.items() if not k.startswith("PG") and not k.startswith("NEON")}
env.update(NEON_PG_DIRS=BIN, NEON_HOME=os.path.join(WORK, "config"), PATH=BIN + ":" + env["PATH"], LC_ALL="C.UTF-8", PGTZ="UTC",
           PGOPTIONS="-c lock_timeout=120s", PGUSER="postgres")
PORT = options.port


def run(*command, check=True, **more):
    result = subprocess.run(command, env={**env, **more.pop("env", {})}, text=True, errors="replace", capture_output=True, **more)
    if check and result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed ({result.returncode}):\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result


def neon(*arguments, **more):
    return run(options.neon, "-C", REPO, *arguments, **more)


def neon_json(*arguments):
    return json.loads(neon("--json", *arguments).stdout)


def psql(host, port, sql, database="postgres", check=True):
    return run("psql", "-h", host, "-p", str(port), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-", input=sql,
               check=check).stdout.strip()


def number(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def text(lsn):
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


# Everything that makes WAL, with transactions that stay open for a while; each script is one client that runs over and over.
SETUP = """
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, note text);
INSERT INTO accounts SELECT g, 0, repeat('n', g % 60) FROM generate_series(1, 5000) g;
CREATE INDEX ON accounts (balance);
CREATE INDEX ON accounts USING hash (balance);
CREATE INDEX ON accounts USING brin (id) WITH (pages_per_range = 4);
CREATE TABLE shapes (id serial PRIMARY KEY, at point, tags int[], body text);
CREATE INDEX ON shapes USING gist (at);
CREATE INDEX ON shapes USING gin (tags);
CREATE INDEX ON shapes USING spgist (body);
CREATE TABLE sub (id int, v text);
CREATE SEQUENCE counter;
CREATE TABLE cut (id int PRIMARY KEY, filler text);
CREATE TABLE wide (id int PRIMARY KEY, body text);
ALTER TABLE wide ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
"""
MIX = {
    "update": r"""\set id random(1, 5000)
BEGIN; UPDATE accounts SET balance = balance + 1, note = note || 'u' WHERE id = :id; SAVEPOINT s; INSERT INTO sub VALUES (:id, 'x'); END;
SELECT nextval('counter');""",
    "locks": r"""\set low random(1, 20)
\set high random(21, 40)
BEGIN; SELECT 1 FROM accounts WHERE id = :low FOR KEY SHARE; SAVEPOINT s; UPDATE accounts SET note = 'k' WHERE id = :high; RELEASE s;
SELECT 1 FROM accounts WHERE id = :high FOR SHARE; END;""",
    "shapes": r"""\set a random(1, 1000)
\set b random(1, 1000)
INSERT INTO shapes (at, tags, body) SELECT point(:a, g), ARRAY[:a, :b, g], md5((:a * g)::text) FROM generate_series(1, 20) g;
DELETE FROM shapes WHERE id IN (SELECT id FROM shapes WHERE tags @> ARRAY[:b] LIMIT 15);""",
    "prepared": r"""\set id random(1, 1000000000)
BEGIN; INSERT INTO sub VALUES (1, 'prepared'); SAVEPOINT s; INSERT INTO sub VALUES (2, 'prepared'); CREATE TABLE p:id (id int PRIMARY KEY); INSERT INTO p:id VALUES (1);
PREPARE TRANSACTION 'p:id';
\sleep 200 ms
COMMIT PREPARED 'p:id';
DROP TABLE p:id;
BEGIN; INSERT INTO sub VALUES (3, 'undone'); CREATE TABLE q:id (id int); PREPARE TRANSACTION 'q:id';
\sleep 100 ms
ROLLBACK PREPARED 'q:id';""",
    "ddl": r"""\set id random(1, 1000000000)
BEGIN; CREATE TABLE t:id (id int PRIMARY KEY, v text); INSERT INTO t:id SELECT g, 'v' FROM generate_series(1, 500) g;
\sleep 300 ms
END;
ALTER TABLE t:id ALTER COLUMN v TYPE varchar(20);
TRUNCATE t:id; INSERT INTO t:id VALUES (1, 'w'); CREATE INDEX ON t:id (v); VACUUM FULL t:id; REINDEX TABLE t:id;
BEGIN; TRUNCATE cut; INSERT INTO cut SELECT g, repeat('f', 100) FROM generate_series(1, 1000) g; END;
DELETE FROM cut WHERE id > 100; VACUUM cut;
DROP TABLE t:id;
BEGIN; CREATE TABLE never:id (id int PRIMARY KEY); INSERT INTO never:id SELECT generate_series(1, 500);
\sleep 100 ms
ROLLBACK;""",
    "vacuum": r"""\set id random(1, 300)
INSERT INTO wide SELECT :id, repeat('w', 9000) ON CONFLICT (id) DO UPDATE SET body = wide.body || 'again';
VACUUM accounts; VACUUM (FREEZE) sub; VACUUM shapes; DELETE FROM wide WHERE id < :id; VACUUM wide; VACUUM pg_class;
INSERT INTO fast VALUES (:id) ON CONFLICT DO NOTHING;
\sleep 500 ms""",
}


def start():
    endpoint = neon_json("start", "main", "--port", str(PORT))
    return endpoint["socket_directory"], endpoint["port"]


def make():
    """Makes the repository, the base and the workload; returns where the history begins and ends for the recoveries."""
    shutil.rmtree(WORK, ignore_errors=True)
    for directory in (WORK, ARCHIVE, SOCKETS):
        os.makedirs(directory)
    run(options.neon, "init", REPO)
    host, port = start()
    for name, value in {"wal_keep_size": "'1000GB'", "max_prepared_transactions": "20", "track_commit_timestamp": "on",
                        "autovacuum_naptime": "'2s'", "max_connections": "60", "log_min_messages": "fatal", "max_locks_per_transaction": "128"}.items():
        psql(host, port, f"ALTER SYSTEM SET {name} = {value};")
    neon("stop", "main")
    host, port = start()
    # The segment in which the base stops shall be whole in the archive.
    psql(host, port, "SELECT pg_switch_wal();")
    neon("stop", "main")
    pgdata = os.path.join(REPO, ".neon/endpoints/main/pgdata")
    shutil.copytree(pgdata, BASE, symlinks=True)
    # The shutdown checkpoint that recoveries begin with.
    base = re.search(r"Latest checkpoint location: +(\S+)", run("pg_controldata", BASE).stdout)[1]
    host, port = start()
    workload(host, port)
    psql(host, port, "CHECKPOINT;")
    neon("stop", "main")
    for segment in glob.glob(os.path.join(pgdata, "pg_wal", "?" * 24)):
        os.link(segment, os.path.join(ARCHIVE, os.path.basename(segment)))
    end = neon_json("show", "main")["lsn"]
    facts = {"base": base, "end": end}
    with open(FACTS, "w") as file:
        json.dump(facts, file)
    return facts


def workload(host, port):
    psql(host, port, "CREATE DATABASE mix; CREATE DATABASE model;")
    psql(host, port, SETUP, "mix")
    psql(host, port, "CREATE TABLE kept (id int PRIMARY KEY, t text); INSERT INTO kept SELECT g, repeat('x', 200) FROM generate_series(1, 3000) g;"
                     "CREATE UNLOGGED TABLE fast (id int); DELETE FROM kept WHERE id > 2000; VACUUM kept;", "model")
    clients = []
    for name, script in MIX.items():
        path = os.path.join(WORK, name + ".sql")
        with open(path, "w") as file:
            file.write(script)
        count = "4" if name == "locks" else "2" if name in ("update", "prepared") else "1"
        # Slow enough to leave the suite its time; each ends by itself should this program die.
        clients.append(subprocess.Popen(
            ["pgbench", "-n", "-h", host, "-p", str(port), "-f", path, "-c", count, "-T", "3000", "-R", "40" if name != "update" else "100", "mix"],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    began = time.monotonic()
    if options.regress:
        regress(host, port)
    round = 0
    while time.monotonic() - began < 40 or round < 4:
        strategy = "FILE_COPY" if round % 2 else "WAL_LOG"
        psql(host, port, f"CREATE DATABASE copy_{round} TEMPLATE model STRATEGY = {strategy};")
        psql(host, port, "INSERT INTO kept SELECT g, 'again' FROM generate_series(5000, 6000) g; UPDATE kept SET t = t || 'y' WHERE id % 7 = 0;"
                         "DELETE FROM kept WHERE id > 100; VACUUM kept;", f"copy_{round}")
        if round >= 2:
            psql(host, port, f"DROP DATABASE copy_{round - 2} WITH (FORCE);")
        psql(host, port, "CHECKPOINT;")
        round += 1
        time.sleep(2)
    for client in clients:
        client.terminate()
    for client in clients:
        client.wait()


def regress(host, port):
    source = options.regress
    out = os.path.join(WORK, "regress")
    os.makedirs(out)
    result = run(os.path.join(source, "pg_regress"), f"--inputdir={source}", f"--outputdir={out}", f"--dlpath={source}", f"--bindir={BIN}",
                 f"--schedule={source}/parallel_schedule", "--max-connections=20", f"--host={host}", f"--port={port}", "--user=postgres",
                 check=False, cwd=out)
    # That results differ, as in tests that look at settings, does not matter here; that they ran does.
    lines = result.stdout.splitlines()
    good = sum(line.startswith("ok ") or " ... ok" in line for line in lines)
    bad = [line for line in lines if line.startswith("not ok") or "FAILED" in line]
    print(f"regression suite: {good} tests as expected, {len(bad)} not")
    if good < 150:
        sys.exit("the regression suite did not run:\n" + result.stdout[-3000:] + result.stderr[-1000:])


def recover(lsn, name):
    """Recovers a copy of the base to a position, promotes it and stops it; returns the directory."""
    pgdata = os.path.join(WORK, name)
    shutil.rmtree(pgdata, ignore_errors=True)
    run("cp", "-a", BASE, pgdata)
    shutil.rmtree(os.path.join(pgdata, "pg_replslot"))
    os.mkdir(os.path.join(pgdata, "pg_replslot"), 0o700)
    with open(os.path.join(pgdata, "postgresql.auto.conf"), "a") as conf:
        conf.write(f"""
restore_command = 'cp {ARCHIVE}/%f %p'
recovery_target_lsn = '{lsn}'
recovery_target_inclusive = off
recovery_target_action = promote
recovery_target_timeline = 'current'
hot_standby = off
autovacuum = off
max_logical_replication_workers = 0
checkpoint_timeout = '1d'
max_wal_size = '100GB'
wal_keep_size = 0
fsync = off
shared_buffers = '256MB'
allow_in_place_tablespaces = on
listen_addresses = ''
unix_socket_directories = '{SOCKETS}'
port = {PORT + 1}
log_min_messages = log
""")
    with open(os.path.join(pgdata, "recovery.signal"), "w"):
        pass
    start_stock(pgdata)
    for _ in range(6000):
        state = run("pg_controldata", pgdata).stdout
        if re.search(r"cluster state: +in production", state):
            break
        if not os.path.exists(os.path.join(pgdata, "postmaster.pid")):
            sys.exit(f"the recovery to {lsn} failed: {pgdata}.log")
        time.sleep(0.1)
    stop_stock(pgdata)
    return pgdata


def start_stock(pgdata):
    # Not through a pipe, which the server would hold open.
    subprocess.run(["pg_ctl", "-D", pgdata, "-l", pgdata + ".log", "-w", "-t", "600", "start"], env=env, stdout=subprocess.DEVNULL, check=True)


def stop_stock(pgdata):
    subprocess.run(["pg_ctl", "-D", pgdata, "-m", "fast", "-w", "-t", "600", "stop"], env=env, stdout=subprocess.DEVNULL, check=True)


def compare_files(lsn):
    pgdata = recover(lsn, "recovered")
    result = neon("--json", "dev", "compare", f"main@{lsn}", pgdata, check=False)
    try:
        compared = json.loads(result.stdout)
    except ValueError:
        sys.exit(f"neon dev compare failed at {lsn}: {result.stdout}{result.stderr}")
    total = compared["total"]
    classes = ", ".join(f"{c['name']} {c['pages'] or c['files']}" for c in compared["classes"])
    print(f"{lsn}: {total['files']} files, {total['pages']} pages, {total['differences']} differences, "
          f"{compared['not_replayed']} not replayed, {compared['allowed']['unlogged_blocks']} blocks without WAL ({classes})", flush=True)
    for d in compared["differences"]:
        print(f"   {d['place']} block {d['block']} byte {d['offset']}: {d['ours']}, in the directory {d['theirs']}")
    if total["differences"] == 0:
        shutil.rmtree(pgdata)
    return total["differences"] == 0 and compared["not_replayed"] == 0


def dump(host, port):
    # What was in unlogged tables and sequences is gone on both sides; recovery of 15 even leaves unlogged sequences without their row.
    lines = run("pg_dumpall", "--no-unlogged-table-data", "-h", host, "-p", str(port)).stdout.splitlines()
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


# 18 can check GIN too; no version has a check for the other types.
GIN = """
SELECT format('SELECT gin_index_check(%L);', c.oid::regclass)
FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid
WHERE a.amname = 'gin' AND c.relkind = 'i' AND i.indisvalid AND c.relpersistence = 'p' AND to_regproc('gin_index_check') IS NOT NULL;
"""


def amcheck(host, port):
    """Each complaint, with its lines of explanation."""
    checked = run("pg_amcheck", "-h", host, "-p", str(port), "--all", "--install-missing", "--heapallindexed", "--parent-check",
                  "--no-dependent-toast", "-j", "2", check=False)
    if checked.returncode == 0:
        return []
    return re.split(r"\n(?=\S)", (checked.stdout + checked.stderr).strip())


def check_branch(lsn, index):
    name = f"at{index}"
    neon("branch", "--force-delete", name, check=False)  # of a run that broke off
    neon("branch", name, f"main@{lsn}")
    endpoint = neon_json("start", name, "--port", str(PORT + 2))
    host, port = endpoint["socket_directory"], endpoint["port"]
    pgdata = recover(lsn, "recovered")
    start_stock(pgdata)
    ours, theirs = dump(host, port), dump(SOCKETS, PORT + 1)
    stop_stock(pgdata)
    differing = [line for line in difflib.unified_diff(theirs, ours, lineterm="", n=0)][:40] if ours != theirs else []
    bad = amcheck(host, port)
    if bad:
        # Before 17 an index with an expression that needs a search_path cannot be checked: then not on the recovered server either.
        start_stock(pgdata)
        also = amcheck(SOCKETS, PORT + 1)
        stop_stock(pgdata)
        bad, excused = [e for e in bad if e not in also], len(bad)
    else:
        excused = 0
    indexes = 0
    for database in psql(host, port, "SELECT datname FROM pg_database WHERE datallowconn").splitlines():
        indexes += int(psql(host, port, "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.relkind = 'i' AND amname = 'btree'", database))
        psql(host, port, psql(host, port, GIN, database), database)
    neon("stop", name)
    neon("branch", "--force-delete", name)
    excused -= len(bad)
    print(f"{lsn}: branch of {len(ours)} lines of pg_dumpall, {'equal' if not differing else 'NOT equal'}; "
          f"{indexes} btree indexes and their tables {'clean' if not bad else 'NOT clean'}"
          + (f"; {excused} that the recovered server cannot check either" if excused else ""), flush=True)
    for line in differing + "\n".join(bad).splitlines()[:40]:
        print("   " + line)
    return not differing and not bad


def positions(facts, count, what):
    if options.at:
        return options.at
    chosen = random.Random(f"{options.seed} {what}")
    begin, end = number(facts["base"]), number(facts["end"])
    found = set()
    while len(found) < count:
        lsn = neon_json("show", "main@" + text(chosen.randrange(begin, end)))["lsn"]
        if number(lsn) > begin:
            found.add(lsn)
    return sorted(found, key=number)


def main():
    if options.keep:
        with open(FACTS) as file:
            facts = json.load(file)
    else:
        facts = make()
    print(f"{run('postgres', '--version').stdout.strip()}, seed {options.seed}, history from {facts['base']} to {facts['end']}", flush=True)
    good = True
    if options.files:
        for lsn in positions(facts, options.files, "files"):
            good = compare_files(lsn) and good
    if options.branches:
        for index, lsn in enumerate(positions(facts, options.branches, "branches")):
            good = check_branch(lsn, index) and good
    print("no difference" if good else "DIFFERENCES")
    sys.exit(0 if good else 1)


try:
    main()
finally:
    # After an error, what it left running: an endpoint, a recovered server.
    neon("stop", "--all", check=False)
    left = os.path.join(WORK, "recovered")
    if os.path.exists(os.path.join(left, "postmaster.pid")):
        run("pg_ctl", "-D", left, "-m", "immediate", "-w", "stop", check=False)
