#!/usr/bin/env bash
# Makes WAL with the records and flags that Postgres' regression suite does not write, for the oracle:
#
#   PGBIN=/path/to/postgres/bin redo/corpus/rare.sh DIR [initdb options]
#
# A server of its own in DIR/data, reached by a socket in DIR; its WAL ends up in DIR/wal. Run as any user but root. With
# `-k` (data checksums) hint bits are logged; without, give the oracle `--no-hints`. FPW=on keeps full_page_writes on,
# COMPRESSION=lz4 is a value of wal_compression, CLIENTBIN another directory of psql and pgbench, ARCHIVE_COMMAND another
# way for the WAL to go. The `.sql` files beside this script run last, each in a session of its own, with errors fatal;
# `\c` begins another session where one must not see what the session before it remembers.
set -euo pipefail
: "${PGBIN:?the directory of initdb, pg_ctl, psql and pgbench}"
CLIENTBIN=${CLIENTBIN:-$PGBIN}
DIR=$(realpath -m "${1:?a directory to make}"); shift
mkdir -p "$DIR/wal"
"$PGBIN/initdb" -D "$DIR/data" -U postgres -A trust --no-sync "$@" >/dev/null
cat >> "$DIR/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$DIR'
wal_level = logical
wal_consistency_checking = 'all'
full_page_writes = ${FPW:-off}
wal_compression = ${COMPRESSION:-off}
wal_recycle = off
archive_mode = on
archive_command = '${ARCHIVE_COMMAND:-cp -n %p $DIR/wal/%f}'
fsync = off
autovacuum = off
max_prepared_transactions = 10
CONF
"$PGBIN/pg_ctl" -D "$DIR/data" -l "$DIR/log" -w start >/dev/null
trap '"$PGBIN/pg_ctl" -D "$DIR/data" -w -t 600 -m fast stop >/dev/null' EXIT
export PGHOST=$DIR PGUSER=postgres PGDATABASE=postgres
sql() { "$CLIENTBIN/psql" -Xqv ON_ERROR_STOP=1 "$@" >/dev/null; }

# Generic: a bloom index.
if sql -c 'create extension bloom' 2>/dev/null; then
  sql <<'SQL'
create table bloomed(a int, b int);
insert into bloomed select i, i % 7 from generate_series(1, 2000) i;
create index on bloomed using bloom (a, b);
insert into bloomed select i, i % 11 from generate_series(1, 3000) i;
delete from bloomed where b < 3;
vacuum bloomed;
insert into bloomed select i, 1 from generate_series(1, 500) i;
SQL
fi

# Two pages of the visibility map: one row a page, more than 32672 pages. Updates go from one half to the other.
sql <<'SQL'
create table wide(a int primary key, b text) with (fillfactor = 10);
alter table wide alter b set storage plain;
insert into wide select i, repeat('x', 700) from generate_series(1, 33500) i;
vacuum (freeze) wide;
delete from wide where a % 50 = 0;
vacuum (freeze, truncate off) wide;
alter table wide set (fillfactor = 100);
update wide set b = repeat('y', 7500) where a % 1000 in (1, 2, 3);
vacuum (truncate off) wide;
update wide set b = repeat('z', 7600) where a % 1000 in (1, 4, 5);
select count(*) from (select 1 from wide where a % 100 = 7 for update) x;
vacuum (freeze, truncate off) wide;
select count(*) from (select 1 from wide where a % 100 = 7 for share) x;
update wide set b = b where a % 90 = 1;
delete from wide where a > 20000;
vacuum wide;
insert into wide select i, repeat('w', 700) from generate_series(40001, 41000) i;
vacuum (freeze) wide;
SQL

# LOCK_UPDATED: a row is locked while another transaction updates it.
sql <<'SQL'
create table shared(a int primary key, b int);
insert into shared select i, 0 from generate_series(1, 50) i;
SQL
for round in 1 2 3; do
  sql -c 'begin; update shared set b = b + 1; savepoint s; update shared set b = b + 1 where a % 2 = 0; select pg_sleep(3); commit' &
  updater=$!
  sleep 1
  sql -c 'begin; select * from shared for key share; commit'
  sql -c 'begin; savepoint s; select * from shared for key share; rollback to s; select * from shared where a < 9 for key share; commit'
  wait "$updater"
  sql -c "vacuum (freeze) shared"
done

# Contention: multixacts, HOT chains, pruning, speculative insertions that lose, a pending list; prepared transactions.
sql <<'SQL'
create table hot(a int primary key, b int, c text) with (fillfactor = 70);
insert into hot select i, 0, 'c' from generate_series(1, 300) i;
create table upserted(a int, primary key (a));
create table mixed(a int[], j jsonb);
create index on mixed using gin (a) with (fastupdate = off);
create index on mixed using gin (j) with (fastupdate = on, gin_pending_list_limit = 64);
create table parted(a int, b text) partition by range (a);
create table parted1 partition of parted for values from (0) to (1000);
create table parted2 partition of parted for values from (1000) to (2000);
insert into parted select i, 'p' from generate_series(1, 999) i;
update parted set a = a + 1000 where a % 3 = 0;
SQL
cat > "$DIR/mix.sql" <<'SQL'
\set r random(1, 300)
\set s random(1, 2000)
begin;
select b from hot where a = :r for key share;
savepoint one;
update hot set b = b + 1, c = repeat('d', :r) where a = :r;
rollback to one;
select b from hot where a = :r for share;
update hot set b = b + 1 where a = :r;
commit;
insert into upserted values (:s) on conflict do nothing;
insert into mixed values (array[:r, :s % 7], jsonb_build_object('r', :r, 's', :s));
SQL
"$CLIENTBIN/pgbench" -n -c 6 -j 2 -t 400 -f "$DIR/mix.sql" >/dev/null 2>&1 || true
sql <<'SQL'
begin;
insert into hot select i, 1, 'prepared' from generate_series(1001, 1100) i;
prepare transaction 'one';
commit prepared 'one';
vacuum (freeze) hot;
delete from mixed where a && array[1, 2];
vacuum mixed;
create table long_keys(k text, v int);
create index on long_keys(k);
insert into long_keys select repeat(chr(97 + i % 26), 500 + i % 300), i from generate_series(1, 4000) i;
delete from long_keys where k like 'b%' or v between 500 and 2500;
vacuum long_keys;
delete from long_keys;
vacuum long_keys;
insert into long_keys select 'same', i from generate_series(1, 20000) i;
delete from long_keys where v % 3 = 0;
vacuum long_keys;
insert into long_keys select 'same', i from generate_series(1, 20000) i;
create sequence numbers;
select nextval('numbers') from generate_series(1, 200);
SQL
for script in "$(dirname "$0")"/*.sql; do
  [ -e "$script" ] || continue
  sql -f "$script"
done
sql -c checkpoint
sql -c 'select pg_switch_wal()'
sql -c 'checkpoint'
