"""Random reads of pages at a branch head, and opening a repository of 100,000 layers."""
import os, re


def measure(lab, base, port):
    """A repository whose branch took in a load, sealed and compacted as a daemon does it."""
    repo = lab.fresh("reads")
    lab.neon("init", "--from", base, repo, cwd=lab.work)
    lab.neon("config", "set", "pagestore.seal_seconds", "5", cwd=repo)
    endpoint = lab.neon_json("start", "main", cwd=repo)
    transactions = 40_000 * lab.size
    for _ in range(4):
        lab.pgbench(str(endpoint["port"]), "-c", "4", "-j", "2", "-t", str(transactions // 16), host=endpoint["socket_directory"])
    lab.neon("stop", "main", cwd=repo)
    lab.settle(repo)
    for _ in range(lab.options.repeat):
        told = lab.run(lab.options.tools + "/pages", os.path.join(repo, ".neon"))
        for line in told.splitlines():
            found = re.match(r"(.+): median ([\d.]+) us, 99 % ([\d.]+) us", line)
            if found:
                lab.record("random get_page at head, us (p50)", found[1], float(found[2]), "us")
                lab.record("random get_page at head, us (p99)", found[1], float(found[3]), "us")
    lab.fresh("reads")


def open_many(lab):
    """The bench of 100,000 layers, built by the script that runs this."""
    told = lab.run(lab.options.tools + "/open", "--bench", "first lookup")
    found = re.search(r"time:\s+\[[\d.]+ \S+ ([\d.]+) (\S+)", told)
    lab.record("open a repository with 100,000 layers, ms", "open, read the map, first lookup", float(found[1]) * {"ms": 1, "µs": 1e-3, "s": 1e3}[found[2]], "ms")
