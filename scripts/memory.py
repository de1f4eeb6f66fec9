#!/usr/bin/env python3
"""The most memory that each neon process takes (VmHWM: mappings included) in each step of a repository's life.

A cluster of --megabytes with text, JSON and numbers beside pgbench's tables is imported; a server writes --wal megabytes of WAL twice, without and
with full-page images, which are sealed and compacted; then everything is branched, exported, pushed, cloned, pulled, checked, collected. A peak is
set back before each step where a process lives longer than it (/proc/PID/clear_refs). Exit status 1 when a process took more than --most.
"""
import argparse, datetime, json, os, platform, shutil, signal, subprocess, sys, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("--neon", required=True)
parser.add_argument("--work", required=True)
parser.add_argument("--commit", default="unknown")
parser.add_argument("--megabytes", type=int, default=1000)
parser.add_argument("--wal", type=int, default=1000)
parser.add_argument("--most", type=int, default=256, help="MiB")
parser.add_argument("--inside", help="control group of neon's processes")
parser.add_argument("--outside", help="control group of all others that they start")
parser.add_argument("--limit", type=int, help="MiB, of the control group")
parser.add_argument("--json", default=None)
parser.add_argument("--port", type=int, default=56643)
options = parser.parse_args()
PG = "/usr/lib/postgresql/15/bin/"
WORK = options.work
shutil.rmtree(WORK, ignore_errors=True)
os.makedirs(WORK)
env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
env.update(PGPASSWORD="memory", NEON_PG_DIRS=PG, NEON_HOME=WORK)
rows = []
seconds = {}


def name_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\0")
    return words if words and words[0] == options.neon else None


def peak_of(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


class Watch(threading.Thread):
    """Samples the peaks of all neon processes until it is stopped, and keeps others out of their control group."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peaks, self.lock, self.running = {}, threading.Lock(), True

    def run(self):
        while self.running:
            self.look()
            time.sleep(0.02)

    def look(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = name_of(pid)
                if words:
                    kind = "serve" if "serve" in words else "daemon" if "daemon" in words else "command"
                    place = next((os.path.basename(w) for w in words if w.startswith(WORK)), "") if kind != "command" else ""
                    peak = peak_of(pid)
                    with self.lock:
                        key = f"{kind} {place}".strip()
                        self.peaks[key] = max(self.peaks.get(key, 0), peak)
            except (OSError, ValueError):
                continue
        if options.inside:
            try:
                with open(options.inside + "/cgroup.procs") as file:
                    inside = file.read().split()
                for pid in inside:
                    if os.readlink(f"/proc/{pid}/exe") != options.neon:
                        with open(options.outside + "/cgroup.procs", "w") as file:
                            file.write(pid)
            except OSError:
                pass

    def take(self):
        self.look()
        with self.lock:
            peaks, self.peaks = self.peaks, {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if name_of(pid):
                    with open(f"/proc/{pid}/clear_refs", "w") as file:
                        file.write("5")
            except OSError:
                continue
        return peaks


watch = Watch()


def enter():
    if options.inside:
        with open(options.inside + "/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))


def run(*command, cwd=WORK, check=True, limited=False, **more):
    result = subprocess.run(command, cwd=cwd, env=env, check=False, text=True, capture_output=True,
                            preexec_fn=enter if limited else None, **more)
    if check and result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {result.returncode}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def neon(*arguments, cwd=WORK):
    return run(options.neon, *arguments, cwd=cwd, limited=True)


def step(name, work):
    watch.take()
    begin = time.monotonic()
    result = work()
    took = time.monotonic() - begin
    for process, peak in sorted(watch.take().items()):
        rows.append({"step": name, "process": process, "peak_kib": peak, "seconds": round(took, 1)})
        over = "" if peak <= options.most << 10 else "  over"
        print(f"  {name:44} {process:18} {peak / 1024:8.1f} MiB {took:8.1f} s{over}", flush=True)
    return result


def size(path):
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(path) for f in files)


def psql(place, *sql):
    host, port = place
    commands = [word for line in sql for word in ("-c", line)]
    return run("psql", "-h", host, "-p", str(port), "-U", "postgres", "-XqAt", "-v", "ON_ERROR_STOP=1", *commands, "postgres").strip()


def start(repo, branch="main"):
    endpoint = json.loads(neon("--json", "start", branch, cwd=repo))
    endpoint = endpoint.get("value", endpoint)
    neon("psql", branch, "--", "-qc", "select 1", cwd=repo)
    return endpoint["socket_directory"], endpoint["port"]


# A document of some 600 bytes: numbers, words of a vocabulary, digests that do not compress.
DOCUMENT = """jsonb_build_object('id', i, 'at', now() - i * interval '7 seconds', 'price', (random() * 10000)::numeric(10,2),
  'name', (array['anvil','bolt','cable','drill','engine','flange','gear','hinge','idler','jack'])[1 + (random() * 9)::int],
  'tags', jsonb_build_array(md5(i::text), (random() * 1000)::int, md5((i * 31)::text)),
  'note', repeat(md5((i % 1000)::text) || ' ', 4) || md5(random()::text))"""
TEXT = "md5(random()::text) || ' ' || repeat(md5((i % 5000)::text) || ' and so on ', 3) || md5((i * 17)::text)"
INSERTS = [
    f"insert into documents select i, {DOCUMENT} from generate_series({{0}}, {{1}}) i",
    f"insert into texts select i, random() * 1e9, (random() * 1e9)::bigint, {TEXT} from generate_series({{0}}, {{1}}) i",
]
DOCUMENT_BYTES, TEXT_BYTES = 640, 290


def fill(place, first, megabytes):
    """Half of it documents, half texts, with their indexes, in transactions of some 10 MB."""
    done = 0
    while done < megabytes:
        some = min(20, megabytes - done)
        rows_of = [some * 500_000 // DOCUMENT_BYTES, some * 500_000 // TEXT_BYTES]
        for insert, count in zip(INSERTS, rows_of):
            psql(place, insert.format(first, first + count - 1))
        first += max(rows_of)
        done += some
    return first


def lsn(place):
    return int(psql(place, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


def write_wal(place, megabytes, images, first):
    """Bulk loads and, with images, updates of random rows after checkpoints."""
    psql(place, f"alter system set full_page_writes = {'on' if images else 'off'}", "select pg_reload_conf()")
    begin = lsn(place)
    while lsn(place) - begin < megabytes << 20:
        if images:
            psql(place, "checkpoint")
            run(PG + "pgbench", "-n", "-c", "2", "-t", "4000", "-h", place[0], "-p", str(place[1]), "-U", "postgres", "postgres")
        else:
            first = fill(place, first, 100)
    return first


def settle(repo):
    """Waits until the daemon has sealed and compacted."""
    objects, last, same = os.path.join(repo, ".neon", "objects"), None, 0
    for _ in range(600):
        now = sum(len(files) for _, _, files in os.walk(objects)), size(objects)
        same = same + 1 if now == last else 0
        last = now
        if same >= 8:
            return
        time.sleep(0.5)


def daemon_of(repo):
    try:
        with open(os.path.join(repo, ".neon", "neon.pid")) as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def end_daemon(repo):
    pid = daemon_of(repo)
    if not pid:
        return
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(1200):
            os.kill(pid, 0)
            time.sleep(0.05)
    except OSError:
        pass


def serve(directory, port):
    process = subprocess.Popen([options.neon, "serve", "--root", directory, "--listen", f"127.0.0.1:{port}"], env=env, cwd=WORK,
                               preexec_fn=enter, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    return process


def stop_server(process):
    process.send_signal(signal.SIGTERM)
    process.wait()


server = None
watch.start()
base = os.path.join(WORK, "base")
repos = [os.path.join(WORK, name) for name in ("shop", "copy", "other")]
shop, copy, other = repos
try:
    run(PG + "initdb", "-D", base, "-U", "postgres", "-k", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    run(PG + "pg_ctl", "-D", base, "-w", "-l", base + ".log", "-o",
        f"-p {options.port} -c listen_addresses='' -c unix_socket_directories={WORK} -c max_wal_size=2GB -c fsync=off", "start")
    place = (WORK, options.port)
    scale = max(1, options.megabytes // 45)
    run(PG + "pgbench", "-i", "-q", "-s", str(scale), "-h", WORK, "-p", str(options.port), "-U", "postgres", "postgres")
    psql(place, "update pgbench_accounts set filler = md5(aid::text) || md5((aid * 7)::text)", "vacuum full pgbench_accounts",
         "create table documents(id bigint, document jsonb)", "create table texts(id bigint, a float8, b bigint, t text)",
         "create index on documents(id)", "create index on texts(b)")
    first = fill(place, 1, options.megabytes * 2 // 3)
    psql(place, "checkpoint")
    run(PG + "pg_ctl", "-D", base, "-w", "-m", "fast", "stop")
    data = size(base) - size(os.path.join(base, "pg_wal"))
    print(f"data directory: {data / 1e6:,.0f} MB without pg_wal", flush=True)

    step("import", lambda: neon("init", "--from", base, shop))
    shutil.rmtree(base)
    place = step("start", lambda: start(shop))
    first = step("ingest, no images; seals, compaction", lambda: write_wal(place, options.wal, False, first))
    step("commit", lambda: neon("commit", "-m", "loaded", cwd=shop))
    step("ingest, images; seals, compaction", lambda: write_wal(place, options.wal, True, first))
    step("commit again", lambda: neon("commit", "-m", "updated", cwd=shop))
    step("compaction", lambda: settle(shop))
    step("branch", lambda: neon("branch", "b1", cwd=shop))
    step("branch in the middle", lambda: neon("branch", "b2", "main~1", cwd=shop))
    step("start a branch", lambda: start(shop, "b2"))
    step("stop", lambda: neon("stop", "--all", cwd=shop))
    shutil.rmtree(os.path.join(shop, ".neon", "endpoints", "b2"), ignore_errors=True)
    step("export, by the daemon", lambda: neon("export", "main", "--pgdata", os.path.join(WORK, "plain"), cwd=shop))
    shutil.rmtree(os.path.join(WORK, "plain"))
    end_daemon(shop)
    step("open, log", lambda: neon("log", "main", cwd=shop))
    step("export", lambda: neon("export", "main", "--pgdata", os.path.join(WORK, "plain"), cwd=shop))
    shutil.rmtree(os.path.join(WORK, "plain"))
    step("fsck", lambda: neon("fsck", cwd=shop))
    step("du", lambda: neon("du", cwd=shop))
    step("gc", lambda: neon("gc", "--grace", "0s", cwd=shop))

    root = os.path.join(WORK, "root")
    os.makedirs(root)
    subprocess.run([options.neon, "user", "add", "me", "--root", root, "--password-stdin"], env=env, input="memory", text=True, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = serve(root, 56699)
    neon("origin", "add", "cloud", "postgresql://me@127.0.0.1:56699/shop", cwd=shop)
    step("push of everything", lambda: neon("push", "main", "cloud", cwd=shop))
    step("clone", lambda: neon("clone", "postgresql://me@127.0.0.1:56699/shop", copy))
    step("clone of a path", lambda: neon("clone", shop, other))
    place = step("start the clone", lambda: start(copy))
    step("ingest in the clone", lambda: write_wal(place, options.wal // 4, True, first))
    step("stop the clone", lambda: neon("stop", "--all", cwd=copy))
    step("push of what is new, by the daemon", lambda: neon("push", "main", cwd=copy))
    step("pull of that", lambda: neon("pull", "main", "cloud", cwd=shop))
    stop_server(server)
    server = None
finally:
    for repo in repos:
        if os.path.isdir(os.path.join(repo, ".neon")):
            subprocess.run([options.neon, "-C", repo, "stop", "--all"], env=env, capture_output=True)
            end_daemon(repo)
    if server:
        stop_server(server)
    if os.path.exists(os.path.join(base, "postmaster.pid")):
        subprocess.run([PG + "pg_ctl", "-D", base, "-m", "immediate", "stop"], env=env, capture_output=True)
    watch.running = False
    watch.join()

held = {}
if options.inside:
    for file in ("memory.failcnt", "memory.oom_control", "memory.events"):
        path = os.path.join(options.inside, file)
        if os.path.exists(path):
            with open(path) as opened:
                held[file] = opened.read().split()
stored = size(os.path.join(shop, ".neon", "objects"))
shutil.rmtree(WORK, ignore_errors=True)
print("\n| step | process | most memory |\n|---|---|--:|")
for row in rows:
    print(f"| {row['step']} | {row['process']} | {row['peak_kib'] / 1024:.0f} MiB |")
most = max(rows, key=lambda row: row["peak_kib"])
print(f"\nmost: {most['peak_kib'] / 1024:.0f} MiB, {most['process']}, {most['step']}; objects: {stored / 1e6:,.0f} MB; control group: {options.limit or 'none'} {held}")
report = {"date": datetime.date.today().isoformat(), "commit": options.commit, "data_bytes": data, "wal_megabytes": options.wal, "object_bytes": stored,
          "limit_mib": options.limit, "control_group": held, "most_kib": most["peak_kib"],
          "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "arch": platform.machine()}, "steps": rows}
if options.json:
    with open(options.json, "w") as file:
        json.dump(report, file, indent=1)
sys.exit(0 if most["peak_kib"] <= options.most << 10 else 1)
