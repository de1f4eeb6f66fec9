-- Hash: every kind of record. A fill factor of 10 makes buckets of 40 tuples, so that few rows split many buckets; equal keys
-- make chains of overflow pages, which vacuum squeezes.

create schema hash;
set search_path = hash, public;

-- Builds: empty, filled, with more than 512 buckets, where an index no longer doubles; an init fork.
create table filled as select i % 700 k, i from generate_series(1, 2500) i;
create index on filled using hash (k);
create table large as select i k from generate_series(1, 24800) i;
analyze large;
create index on large using hash (k) with (fillfactor = 10);
insert into large select i from generate_series(30001, 32000) i;
create unlogged table unlogged(k text);
create index on unlogged using hash (k);

-- Growth from two buckets on.
create table grown(k int, i int);
create index on grown using hash (k) with (fillfactor = 10);
insert into grown select i, i from generate_series(1, 6000) i;
delete from grown where k % 3 = 0;
vacuum grown;
insert into grown select i, i from generate_series(6001, 7000) i;

-- Splits of buckets that have overflow pages.
create table skewed(k int);
create index on skewed using hash (k) with (fillfactor = 60);
insert into skewed select case when i % 3 = 0 then i else i % 4 end from generate_series(1, 6000) i;
delete from skewed where k > 3 and k % 2 = 0;
vacuum skewed;

-- Chains: pages in the middle get room for some of the tuples of the last one (MOVE_PAGE_CONTENTS), then for all of them
-- (SQUEEZE_PAGE); last pages that are empty; free pages that are used again.
create table chained(k int, i int);
create index on chained using hash (k);
insert into chained select 1, i from generate_series(1, 4000) i;
delete from chained where i % 10 = 0;
vacuum chained;
delete from chained where i % 3 = 0;
vacuum chained;
delete from chained where i > 1500;
vacuum chained;
insert into chained select 1, i from generate_series(5001, 7000) i;
delete from chained where i between 5200 and 6400;
vacuum chained;
insert into chained select 1 + i % 2, i from generate_series(8001, 9500) i;
delete from chained where i > 8100 or i < 800;
vacuum chained;
insert into chained select 1, i from generate_series(10001, 11200) i;
delete from chained where i > 10000;
vacuum chained;
delete from chained;
vacuum chained;
vacuum chained;
insert into chained select 3, i from generate_series(1, 1000) i;

-- Scans that find dead tuples, then inserts that remove them, in first and in overflow pages; vacuum finds the rest.
create table killed(k int, i int);
create index on killed using hash (k);
insert into killed select 5, i from generate_series(1, 1500) i;
insert into killed select 6 + i % 3, i from generate_series(1, 400) i;
delete from killed where i % 2 = 0;
\c
set search_path = hash, public;
set enable_seqscan = off;
set enable_bitmapscan = off;
select count(i) from killed where k = 5;
select count(i) from killed where k = 6;
select count(i) from killed where k = 5;
insert into killed select 5, i from generate_series(1, 900) i;
insert into killed select 6, i from generate_series(1, 600) i;
update killed set i = -i where k = 5;
\c
set search_path = hash, public;
set enable_seqscan = off;
set enable_bitmapscan = off;
select count(i) from killed where k = 5;
vacuum killed;
insert into killed select 7, i from generate_series(1, 200) i;
