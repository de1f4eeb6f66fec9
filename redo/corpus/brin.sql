-- BRIN: every kind of record. Ranges of one block make a second page of the range map necessary after 1360 heap blocks;
-- the tuples on the block that it needs move away (UPDATE), and those that grow move to other pages.

create schema brin;
set search_path = brin, public;

-- Builds, and what they write for filled tables.
create table built as select i, i % 97 j, md5(i::text) t from generate_series(1, 4000) i;
create index on built using brin (i, j, t) with (pages_per_range = 1);
create index on built using brin (t text_bloom_ops) with (pages_per_range = 2);
create index on built using brin (i int4_minmax_multi_ops (values_per_range = 16)) with (pages_per_range = 2);
create index on built using brin (box(point(i, j), point(j, i))) with (pages_per_range = 4);

-- An empty index that grows: blocks of one row each, summarized in steps.
create table grown(i int, pad text) with (fillfactor = 10);
alter table grown alter pad set storage plain;
create index grown_i on grown using brin (i) with (pages_per_range = 1);
insert into grown select i, repeat('x', 700) from generate_series(1, 900) i;
select brin_summarize_new_values('grown_i');
insert into grown select i, repeat('x', 700) from generate_series(901, 3200) i;
select brin_summarize_new_values('grown_i');
vacuum grown;

-- Tuples that stay in place or move, by their size; new pages for those that fit nowhere.
create table texts(i int, k text);
alter table texts alter k set storage plain;
create index texts_k on texts using brin (k, i) with (pages_per_range = 1);
insert into texts select i, 'm' || i % 10 from generate_series(1, 8000) i;
select brin_summarize_new_values('texts_k');
update texts set k = repeat('a', 1 + i % 300) where i % 41 = 0;
update texts set k = repeat('z', 1 + i % 900) where i % 67 = 0;
insert into texts select i, repeat('b', 1500) from generate_series(1, 60) i;
select brin_summarize_new_values('texts_k');
vacuum texts;
update texts set k = 'm' where i % 67 = 0;
update texts set k = null where i % 83 = 0;

-- Opclasses whose tuples grow by what they hold.
create table classes(i int, t timestamptz, a inet, u uuid, n numeric);
create index on classes using brin (i int4_minmax_multi_ops, t timestamptz_minmax_multi_ops) with (pages_per_range = 2);
create index on classes using brin (i int4_bloom_ops (n_distinct_per_range = 200), u uuid_bloom_ops (n_distinct_per_range = 100))
  with (pages_per_range = 2);
create index on classes using brin (a inet_inclusion_ops, n) with (pages_per_range = 3);
create index classes_multi on classes using brin (n numeric_minmax_multi_ops) with (pages_per_range = 1, autosummarize = on);
insert into classes select i, 'epoch'::timestamptz + i * interval '7 hours', ('10.' || i % 7 || '.' || i % 251 || '.1')::inet,
  md5(i::text)::uuid, i * 1.5 from generate_series(1, 3000) i;
select brin_summarize_new_values(indexrelid::regclass) from pg_index where indrelid = 'classes'::regclass;
insert into classes select i * 7 % 3001, 'epoch'::timestamptz + i * interval '11 days', ('fe80::' || to_hex(i))::inet,
  md5((-i)::text)::uuid, i * i from generate_series(1, 2000) i;
delete from classes where i % 3 = 0;
vacuum classes;
insert into classes select -i, 'epoch'::timestamptz - i * interval '11 days', null, md5((-i)::text)::uuid, -i * i
  from generate_series(1, 2000) i;

-- Ranges that lose their tuples and get them again: numbers in the middle of a page become free.
select brin_desummarize_range('grown_i', i * 7) from generate_series(0, 300) i;
select brin_desummarize_range('texts_k', i) from generate_series(0, 40, 3) i;
select brin_desummarize_range('classes_multi', i) from generate_series(0, 20) i;
select brin_summarize_range('grown_i', i * 14) from generate_series(0, 150) i;
select brin_summarize_new_values('texts_k');
select brin_summarize_new_values('classes_multi');
vacuum grown;
