-- SP-GiST: every kind of record. Builds come first: they are logged as pages.

create schema spgist;
set search_path = spgist, public;

-- Quad tree, kd tree, radix tree, boxes, ranges, networks; with nulls and with included columns.
create table quad(i int, p point);
create index on quad using spgist (p) include (i);
insert into quad select i, point(i % 61, i % 97) from generate_series(1, 2500) i;
insert into quad select i, null from generate_series(1, 800) i;
create table kd(i int, p point);
create index on kd using spgist (p kd_point_ops) with (fillfactor = 50);
insert into kd select i, point((i * 37) % 997, (i * 101) % 991) from generate_series(1, 2500) i;
create table built as select i, md5(i::text) t, point(i % 61, i % 97) p from generate_series(1, 4000) i;
create index on built using spgist (t);
create index on built using spgist (p);
create table areas(i int, b box, r int4range, a inet, p polygon);
create index on areas using spgist (b);
create index on areas using spgist (r);
create index on areas using spgist (a inet_ops);
create index on areas using spgist (p);
insert into areas select i, box(point(i % 37, i % 91), point(i % 41, i % 83)), int4range(i % 300, i % 300 + i % 17),
    ('10.' || i % 7 || '.' || i % 251 || '.' || i % 13)::inet, polygon(box(point(i % 50, i % 33), point(i % 50 + 3, i % 33 + 5)))
  from generate_series(1, 1500) i;

-- Radix: long prefixes that later texts split, inner tuples that outgrow their pages node by node, equal values.
create table radix(i int, t text);
create index on radix using spgist (t);
insert into radix select i, md5(i::text) from generate_series(1, 2500) i;
insert into radix select i, repeat('prefix', 40) || chr(33 + i % 90) || chr(33 + i / 90 % 90) || i from generate_series(1, 2000) i;
insert into radix select i, left(repeat('prefix', 40), i % 240) || chr(200 + i % 97) || i from generate_series(1, 1500) i;
insert into radix select i, chr(256 + (i * 7) % 5000) || repeat('x', i % 200) || chr(256 + i % 3000) from generate_series(1, 3000) i;
insert into radix select i, 'same' from generate_series(1, 800) i;

-- Chains that die as a whole, and begin again where there is room for what comes.
create table dying(t text);
create index on dying using spgist (t);
insert into dying select chr(97 + i % 26) || md5(i::text) from generate_series(1, 400) i;
delete from dying where t < 'k';
vacuum dying;
insert into dying select chr(107 + i % 16) || md5((i * 3)::text) from generate_series(1, 100) i;
insert into dying select chr(97 + i) || (select string_agg(md5((i * j)::text), '') from generate_series(1, 60) j) from generate_series(0, 9) i;

-- Roots that are leaves.
create table few(p point);
create index on few using spgist (p);
insert into few select point(i, i) from generate_series(1, 20) i;
insert into few select null from generate_series(1, 9) i;
delete from few where p <@ box '((0,0),(10,10))';
vacuum few;
delete from few;
vacuum few;

-- Leaves lose tuples and redirects become placeholders; new tuples take their places.
vacuum quad, kd, radix, areas;
delete from quad where i % 3 = 0;
delete from kd where i % 4 > 0;
delete from radix where i % 3 > 0;
delete from areas where i % 5 > 0;
vacuum quad, kd, radix, areas;
insert into quad select i, point(i % 67, i % 89) from generate_series(1, 1500) i;
insert into kd select i, point((i * 31) % 997, (i * 103) % 991) from generate_series(1, 1500) i;
insert into radix select i, md5((i * 3)::text) from generate_series(1, 1500) i;
vacuum quad, kd, radix, areas;
delete from quad where i % 7 > 0;
delete from kd;
vacuum quad, kd;
insert into kd select i, point((i * 31) % 997, (i * 103) % 991) from generate_series(1, 1000) i;
vacuum kd;
