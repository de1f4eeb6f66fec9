"""What every measurement uses: commands, Postgres servers, sizes, and where figures go."""
import json, os, platform, random, shutil, statistics, subprocess, sys, time

PG15 = "/usr/lib/postgresql/15/bin/"


class Lab:
    """One run on one machine. Figures of neon and of its peers are taken in turns, so that a slow minute hits all."""

    def __init__(self, options):
        self.options, self.work, self.size = options, options.work, options.gigabytes
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        self.env.update(PGPASSWORD="bench", RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=os.path.join(self.work, "restic-cache"),
                        NEON_PG_DIRS=PG15, PGHOST=self.work, PGUSER="postgres")
        self.servers, self.results, self.notes = {}, {}, []

    # Commands.
    def run(self, *command, cwd=None, check=True, env=None, **more):
        done = subprocess.run(command, cwd=cwd or self.work, env={**self.env, **(env or {})}, text=True, capture_output=True, **more)
        if check and done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout

    def neon(self, *arguments, cwd):
        return self.run(self.options.neon, *arguments, cwd=cwd)

    def neon_json(self, *arguments, cwd):
        told = json.loads(self.neon("--json", *arguments, cwd=cwd))
        return told.get("value", told) if isinstance(told, dict) else told

    def timed(self, *command, **more):
        begin = time.monotonic()
        self.run(*command, **more)
        return time.monotonic() - begin

    def fresh(self, name):
        path = os.path.join(self.work, name)
        shutil.rmtree(path, ignore_errors=True)
        return path

    def settle(self, repo):
        """Waits until the daemon has sealed by age and compacted: nothing new in the object store for ten seconds."""
        objects, quiet, last = os.path.join(repo, ".neon", "objects"), 0, None
        while quiet < 10:
            time.sleep(1)
            now = size(objects)
            quiet, last = (quiet + 1 if now == last else 0), now

    # Postgres.
    def start(self, pgdata, port, *settings, bin=PG15):
        given = " ".join(f"-c {setting}" for setting in settings)
        self.run(bin + "pg_ctl", "-D", pgdata, "-w", "-t", "600", "-l", pgdata + ".log", "-o",
                 f"-p {port} -c listen_addresses='' -c unix_socket_directories={self.work} {given}", "start")
        self.servers[pgdata] = bin

    def stop(self, pgdata, mode="fast"):
        self.run(self.servers.pop(pgdata) + "pg_ctl", "-D", pgdata, "-w", "-t", "600", "-m", mode, "stop")

    def psql(self, port, sql, database="postgres"):
        return self.run("psql", "-p", str(port), "-XAtqc", sql, database).strip()

    def pgbench(self, port, *arguments, host=None, database="postgres"):
        more = ["-h", host] if host else []
        return self.run(PG15 + "pgbench", *more, "-p", str(port), "-n", *arguments, database)

    # Figures.
    def record(self, work, who, value, unit):
        row = self.results.setdefault(work, {}).setdefault(who, {"unit": unit, "runs": []})
        row["runs"].append(value)
        print(f"  {work:44} {who:44} {value:14,.4f} {unit}", flush=True)

    def note(self, text):
        self.notes.append(text)
        print("  " + text, flush=True)

    def report(self):
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "arch": platform.machine()}
        return {"machine": machine, "gigabytes": self.size, "repeat": self.options.repeat, "commit": self.options.commit,
                "notes": self.notes, "results": {
                    work: {who: {"median": statistics.median(row["runs"]), **row} for who, row in rows.items()}
                    for work, rows in self.results.items()}}

    def clean_up(self):
        for pgdata, bin in self.servers.items():
            subprocess.run([bin + "pg_ctl", "-D", pgdata, "-m", "immediate", "stop"], capture_output=True)
        for name in os.listdir(self.work):
            if os.path.isdir(os.path.join(self.work, name, ".neon")):
                subprocess.run([self.options.neon, "-C", os.path.join(self.work, name), "stop", "--all"], env=self.env, capture_output=True)


def size(path):
    """Bytes on disk of a file or directory."""
    if os.path.isfile(path):
        return os.lstat(path).st_blocks * 512
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(path) for f in files)


def shares(values, *percents):
    """Returns percentiles of the values."""
    values = sorted(values)
    return [values[min(len(values) - 1, len(values) * percent // 100)] for percent in percents]


def documents(lab, port, megabytes, database="postgres"):
    """A table of text, json and numbers: sentences of a vocabulary with a long tail, so that they compress as prose does."""
    random.seed(15)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(random.choices(letters, weights=range(len(letters), 0, -1), k=random.choice((2, 3, 4, 5, 5, 6, 7, 8, 9, 11)))) for _ in range(40_000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    sentences = [" ".join(random.choices(words, weights, k=random.randint(6, 22))).capitalize() + "." for _ in range(120_000)]
    lab.psql(port, "create table documents (id bigint, title text, body text, facts jsonb, price numeric, at timestamptz)", database)
    load = subprocess.Popen(["psql", "-p", str(port), "-Xqc", "copy documents from stdin", database], env=lab.env, stdin=subprocess.PIPE, text=True)
    written, number = 0, 0
    while written < megabytes * 1_000_000:
        number += 1
        body = " ".join(random.choices(sentences, k=random.randint(2, 12)))
        facts = json.dumps({"tag": random.choice(words), "score": round(random.random(), 6), "seen": random.randrange(10**9),
                            "by": {"name": random.choice(words), "mail": f"{random.choice(words)}@example.org"}})
        line = f"{number}\t{random.choice(sentences)[:60]}\t{body}\t{facts}\t{random.randrange(10**8) / 100}\t2026-{random.randint(1, 12):02}-{random.randint(1, 28):02} {random.randint(0, 23):02}:{random.randint(0, 59):02}:{random.random() * 59:09.6f}+00\n"
        load.stdin.write(line)
        written += len(line)
    load.stdin.close()
    if load.wait() != 0:
        sys.exit("the documents could not be loaded")
    lab.psql(port, "create index on documents (id); create index on documents (at); create index on documents using gin (facts)", database)
