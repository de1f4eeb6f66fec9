#!/usr/bin/env python3
"""neon against real peers, in one run on one machine; see docs/bench.md.

Data are pgbench's, with the filler columns overwritten by random text because blanks flatter whoever compresses, and a table of text,
json and numbers of about the same size.
"""
import argparse, datetime, json, os, shutil
import branches, history, imports, ingest, pages, transfers
from lab import PG15, Lab, documents, size

parser = argparse.ArgumentParser()
parser.add_argument("--neon", required=True)
parser.add_argument("--tools", required=True, help="directory of the built examples and benches")
parser.add_argument("--work", required=True)
parser.add_argument("--xfs", help="a directory on XFS with reflinks")
parser.add_argument("--postgres18", help="directory of the programs of Postgres 18, with a slash at the end")
parser.add_argument("--commit", default="unknown")
parser.add_argument("--gigabytes", type=int, default=1)
parser.add_argument("--repeat", type=int, default=3)
parser.add_argument("--only", action="append", help="ingest, import, history, pages, branch, peers, transfer, open")
parser.add_argument("--json", default=None)
options = parser.parse_args()
PORT = 56543
lab = Lab(options)


def wanted(name):
    return not options.only or name in options.only


def make_base():
    """Makes the cluster, unless an earlier run left one of this size."""
    base = f"{lab.work}-base-{lab.size}GB"
    if os.path.exists(base + ".made"):
        return base
    shutil.rmtree(base, ignore_errors=True)
    lab.run(PG15 + "initdb", "-D", base, "-U", "postgres", "-k", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    lab.start(base, PORT, "max_wal_size=8GB", "fsync=off", "maintenance_work_mem=512MB")
    lab.run(PG15 + "pgbench", "-i", "-q", "-s", str(32 * lab.size), "-p", str(PORT), "postgres")
    lab.psql(PORT, "update pgbench_accounts set filler = md5(aid::text) || md5((aid * 7)::text)")
    lab.psql(PORT, "vacuum full pgbench_accounts")
    documents(lab, PORT, 360 * lab.size)
    lab.psql(PORT, "vacuum analyze")
    lab.stop(base)
    # Segments that were made ahead are nobody's data.
    lab.run(PG15 + "pg_resetwal", "-D", base)
    lab.start(base, PORT)
    lab.stop(base)
    lab.run("sync")
    open(base + ".made", "w").close()
    return base


def tell(data):
    """Prints and writes what was measured, also when a measurement failed."""
    report = {"date": datetime.date.today().isoformat(), "data_bytes": data, **lab.report()}
    print("\n| work | who | median | ratio to neon |\n|---|---|--:|--:|")
    for work, rows in report["results"].items():
        own = next((row["median"] for who, row in rows.items() if who.startswith("neon")), None)
        for who, row in rows.items():
            shown = f"{row['median'] / 1e6:,.2f} MB" if row["unit"] == "B" else f"{row['median']:,.3f} {row['unit']}"
            ratio = f"{row['median'] / own:.2f}" if own and not who.startswith("neon") else ""
            print(f"| {work} | {who} | {shown} | {ratio} |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)


data = 0
try:
    base = make_base()
    data = size(base) - size(os.path.join(base, "pg_wal"))
    print(f"data directory: {data / 1e6:,.0f} MB without pg_wal", flush=True)
    if wanted("import") or wanted("transfer"):
        imports.measure(lab, base, PORT, data)
    if wanted("transfer"):
        transfers.measure(lab, base, PORT)
    lab.fresh("repo")
    if wanted("branch"):
        branches.measure(lab, base)
    if wanted("peers"):
        branches.peers(lab, PORT, 68 * lab.size)
    if wanted("history"):
        history.measure(lab, base, PORT)
    if wanted("pages"):
        pages.measure(lab, base, PORT)
    if wanted("ingest"):
        ingest.measure(lab, base, PORT, 120_000 * lab.size)
    if wanted("open"):
        pages.open_many(lab)
finally:
    lab.clean_up()
    tell(data)
