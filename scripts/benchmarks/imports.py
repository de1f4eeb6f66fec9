"""Import of a data directory, and export of a branch head."""
import os
from lab import PG15, size


def measure(lab, base, port, data):
    for turn in range(lab.options.repeat):
        repo, backup = lab.fresh("repo"), lab.fresh("backup")
        # Whoever comes first would read it from the disk, the others from memory.
        lab.run("sh", "-c", f"find {base} -type f -print0 | xargs -0 cat >/dev/null")
        restic = ["restic", "-q", "-r", lab.fresh("restic")]
        lab.run(*restic, "init", "--repository-version", "2")
        work, kept = "import, seconds", "import, bytes on disk"
        lab.record(work, "neon init --from", lab.timed(lab.options.neon, "init", "--from", base, repo), "s")
        lab.record(kept, "neon init --from", size(os.path.join(repo, ".neon")), "B")
        lab.start(base, port)
        lab.record(work, "pg_basebackup", lab.timed(PG15 + "pg_basebackup", "-p", str(port), "-D", backup, "-X", "stream", "-c", "fast"), "s")
        lab.record(kept, "pg_basebackup", size(backup), "B")
        lab.stop(base)
        lab.fresh("backup")
        lab.record(work, "restic backup", lab.timed(*restic, "backup", base), "s")
        lab.record(kept, "restic backup", size(restic[3]), "B")

        work = "export of a branch head, seconds"
        out, copy, restored = lab.fresh("out"), lab.fresh("copy"), lab.fresh("restored")
        lab.record(work, "neon export", lab.timed(lab.options.neon, "export", "main", "--pgdata", out, cwd=repo), "s")
        lab.record(work, "cp -a of the result", lab.timed("cp", "-a", out, copy), "s")
        lab.fresh("copy")
        # An export is on disk when it ends.
        synced = lab.timed("sh", "-c", f"cp -a {out} {copy} && find {copy} -type f -print0 | xargs -0 -n 1000 sync")
        lab.record(work, "cp -a of the result, and fsync", synced, "s")
        lab.fresh("copy")
        lab.record(work, "restic restore", lab.timed(*restic, "restore", "latest", "--target", restored), "s")
        lab.fresh("restored")
        lab.fresh("out")

        work = "check of all that is stored, MB/s a core"
        objects = os.path.join(repo, ".neon", "objects")
        stored = size(objects)
        wall, busy = processor_time(lab, lab.options.neon, "fsck", cwd=repo)
        lab.record("check of all that is stored, MB/s", "neon fsck, all cores, in the page cache", stored / wall / 1e6, "MB/s")
        files = [os.path.join(d, f) for d, _, names in os.walk(objects) for f in names]
        seconds = sum(lab.timed("dd", f"if={file}", "of=/dev/null", "bs=4M", "iflag=direct") for file in files)
        lab.record("check of all that is stored, MB/s", "(the disk: the same files, past the page cache)", stored / seconds / 1e6, "MB/s")
        lab.record(work, "neon fsck, stored bytes", stored / busy / 1e6, "MB/s")
        lab.record(work, "neon fsck, bytes that they hold", data / busy / 1e6, "MB/s")
        held = size(restic[3])
        restic_wall, restic_busy = processor_time(lab, *restic, "check", "--read-data")
        lab.record(work, "restic check --read-data, stored bytes", held / restic_busy / 1e6, "MB/s")
        lab.record("check of all that is stored, seconds", "neon fsck", wall, "s")
        lab.record("check of all that is stored, seconds", "restic check --read-data", restic_wall, "s")
    lab.fresh("restic")


def processor_time(lab, *command, cwd=None):
    """Returns seconds by the clock and on processors."""
    before = os.times()
    wall = lab.timed(*command, cwd=cwd)
    after = os.times()
    return wall, (after.children_user - before.children_user) + (after.children_system - before.children_system)
