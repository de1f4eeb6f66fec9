"""WAL ingest without full-page images against Postgres' recovery of the same WAL, fsync on in both."""
import os, re, shutil, time


def make_wal(lab, base, port, transactions):
    """Runs a load on a copy of `base`; returns the directory of the WAL that it wrote."""
    loaded = lab.fresh("loaded")
    lab.run("cp", "-a", base, loaded)
    lab.start(loaded, port, "full_page_writes=off", "max_wal_size=100GB", "checkpoint_timeout=1d", "synchronous_commit=off",
              "shared_buffers=2GB", "wal_keep_size=100GB")
    lab.pgbench(port, "-c", "4", "-j", "2", "-t", str(transactions // 4), "--random-seed=15")
    lab.psql(port, "update documents set price = price + 1, facts = facts || jsonb_build_object('seen', id) where id % 5 = 0")
    lab.psql(port, "insert into documents select id + 10000000, title, body, facts, price, at from documents where id % 7 = 0")
    lab.psql(port, "delete from documents where id % 11 = 0")
    lab.psql(port, "vacuum")
    lab.psql(port, "select pg_switch_wal()")
    lab.stop(loaded)
    wal = lab.fresh("wal")
    shutil.move(os.path.join(loaded, "pg_wal"), wal)
    lab.fresh("loaded")
    return wal


def recover(lab, base, wal):
    """Returns the seconds that Postgres' redo of the WAL takes, as its log says."""
    copy = lab.fresh("recovery")
    lab.run("cp", "-a", base, copy)
    open(os.path.join(copy, "recovery.signal"), "w").close()
    # Archives are copied one segment at a time in a real recovery; links spare it that, so what is timed is redo.
    lab.start(copy, 56544, f"restore_command='test -f {wal}/%f && ln -s {wal}/%f %p'", "hot_standby=off", "shared_buffers=2GB", "max_wal_size=100GB",
              "checkpoint_timeout=1d", "recovery_target_timeline=current")
    told = None
    for _ in range(36_000):
        with open(copy + ".log") as log:
            told = re.search(r"redo done at .*elapsed: ([\d.]+) s", log.read())
        if told:
            break
        time.sleep(0.1)
    lab.stop(copy)
    os.remove(copy + ".log")
    lab.fresh("recovery")
    return float(told.group(1))


def measure(lab, base, port, transactions):
    wal = make_wal(lab, base, port, transactions)
    segments = sorted(name for name in os.listdir(wal) if re.fullmatch(r"[0-9A-F]{24}", name))
    for _ in range(lab.options.repeat):
        recovery = recover(lab, base, wal)
        told = lab.run(lab.options.tools + "/ingest", lab.fresh("measured"), base, *(os.path.join(wal, name) for name in segments))
        work = "WAL ingest, no full-page images, MB/s"
        for line in ("received, durable and readable", "and sealed", "and compacted"):
            megabytes, rate = re.search(line + r": ([\d.]+) MB in .* s, ([\d.]+) MB/s", told).groups()
            lab.record(work, "neon: " + line, float(rate), "MB/s")
        lab.record(work, "Postgres recovery (its redo)", float(megabytes) / recovery, "MB/s")
    for name in ("measured", "wal"):
        lab.fresh(name)
