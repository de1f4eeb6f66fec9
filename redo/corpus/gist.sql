-- GiST: every kind of record. Builds come first, as only inserts into a finished index log single changes.

create schema gist;
set search_path = gist, public;

-- Builds: sorted, buffered, and by inserting.
create table built as select i, point(i % 100, i / 100) p from generate_series(1, 5000) i;
create index on built using gist (p);
create index on built using gist (p) with (buffering = on, fillfactor = 60);
create index on built using gist (box(p, p)) with (buffering = off);

-- Splits of leaves and inner pages, root splits: small keys, then keys of which few fit on a page.
create table points(i int, p point);
create index on points using gist (p) with (fillfactor = 90);
insert into points select i, point(i % 71, i % 113) from generate_series(1, 6000) i;
create table boxes(i int, b box, c circle);
create index on boxes using gist (b, c) include (i);
insert into boxes select i, box(point(i % 37, i % 91), point(i % 41, i % 83)), case when i % 5 > 0 then circle(point(i, 1), 2) end
  from generate_series(1, 3000) i;
create table texts(i int, v tsvector);
create index on texts using gist (v tsvector_ops (siglen = 1800));
insert into texts select i, array_to_tsvector((select array_agg(md5((i * j)::text)) from generate_series(1, 1 + i % 90) j))
  from generate_series(1, 1200) i;
create table hulls(i int, p polygon);
create index on hulls using gist (p);
insert into hulls select i, polygon(box(point(i % 50, i % 33), point(i % 50 + 3, i % 33 + 5))) from generate_series(1, 1000) i;
create table spans(r int4range, exclude using gist (r with &&));
insert into spans select int4range(i * 10, i * 10 + 5) from generate_series(1, 1500) i;
insert into spans values ('empty'), ('empty'), (null), (int4range(null, 5)), (int4range(20000, null));
create table addresses(a inet);
create index on addresses using gist (a inet_ops);
insert into addresses select ('10.' || i % 7 || '.' || i % 251 || '.' || i % 13)::inet from generate_series(1, 1500) i;
insert into addresses select ('fe80::' || to_hex(i))::inet from generate_series(1, 500) i;

-- Tuples replaced in place by vacuum's findings: some go, some leaves become empty, their pages are deleted and used again.
delete from points where i % 3 = 0;
vacuum points;
delete from points where p <@ box '((0,0),(50,80))';
vacuum points;
delete from points where i % 500 > 0;
vacuum points;
vacuum points;
select txid_current();
vacuum points;
insert into points select i, point(i % 71, i % 113) from generate_series(1, 3000) i;
delete from texts where i % 7 > 0;
vacuum texts;
delete from boxes where i % 90 > 0;
vacuum boxes;

-- Scans that find dead tuples, then inserts that remove them.
create table killed(i int, p point);
create index killed_p on killed using gist (p);
insert into killed select i, point(i % 30, i / 30) from generate_series(1, 3000) i;
delete from killed where i % 10 > 0;
\c
set search_path = gist, public;
set enable_seqscan = off;
set enable_bitmapscan = off;
set enable_indexonlyscan = off;
select count(i) from killed where p <@ box '((0,0),(400,400))';
select count(i) from killed where p <@ box '((0,0),(400,400))';
insert into killed select i, point(i % 30, i / 30) from generate_series(1, 3000) i;
update killed set p = point(p[1], p[0]) where i % 4 = 0;
vacuum killed;
