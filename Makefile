# make test        everything that must hold, on a bare Debian/Ubuntu machine with Rust (installs what is missing)
# make quickstart  the main job, shown: init, start, branch, push, clone, query
# make oracle      redo against every page that Postgres' own suites write, 14 to 18 (long; docs/redo-coverage.md)
# make file-oracle positions of a regression run against stock recoveries (long; docs/file-oracle.md)
# make faults      every change to the disk fails, or is the last one before a power cut (long; docs/faults.md)
# make bench       against pg_basebackup, Postgres recovery, rsync, cp, restic, pgBackRest (long; docs/bench.md)
# make memory      the most memory that each neon process takes, with a gigabyte of data (long; docs/bench.md)
# make fuzz        every decoder of bytes from disk or network (long)

.PHONY: build test check fmt quickstart oracle file-oracle faults bench memory fuzz man setup

build:
	cargo build --release

setup:
	scripts/setup

fmt:
	cargo fmt --all

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

test: setup
	scripts/test

quickstart:
	scripts/quickstart

oracle:
	scripts/oracle all

file-oracle:
	scripts/file-oracle

faults:
	scripts/faults

bench:
	scripts/bench

memory:
	scripts/memory

fuzz:
	scripts/fuzz

man:
	cargo run -q -- man man
