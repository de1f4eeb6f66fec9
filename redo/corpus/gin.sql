-- Every kind of GIN record: posting trees that grow at the end and in the middle, shrink and lose pages; entry trees of
-- several levels; pending lists of one page and of many. Images are asked for of GIN pages only, else they are most of the WAL.
set wal_consistency_checking = 'gin';
select setseed(0.5);

-- Posting trees of an index build, then rows at the end of them.
create table posted(id int, keys int[]);
insert into posted select i, array[1, 10 + i % 3, 100 + i % 1000] from generate_series(1, 120000) i;
create index posted_keys on posted using gin (keys) with (fastupdate = off);
insert into posted select i, array[1, 2, 10 + i % 3, 100 + i % 1000] from generate_series(120001, 121500) i;

-- Whole leaves go, others lose most of their segments; new rows take the room in the middle.
delete from posted where id between 10000 and 90000 or id % 7 < 5;
vacuum posted;
insert into posted select i, array[1, 10 + i % 3] from generate_series(200001, 203000) i;
alter index posted_keys set (fastupdate = on, gin_pending_list_limit = 4096);
insert into posted select i, array[1, 3, 4 + i % 2, 10 + i % 3] from generate_series(300001, 301000) i;
set wal_consistency_checking = '';
insert into posted select i, array[1, 3, 4 + i % 2, 10 + i % 3] from generate_series(301001, 340000) i;
set wal_consistency_checking = 'gin';
select gin_clean_pending_list('posted_keys');
delete from posted where id % 3 = 0;
vacuum posted;
insert into posted select i, array[1, 5] from generate_series(400001, 402000) i order by random();
vacuum posted;
delete from posted;
vacuum posted;
vacuum posted;
insert into posted select i, array[1, 2] from generate_series(1, 500) i;

-- Entry trees with three keys a page: many splits on many levels. Keys of every category: null, no key, null item.
create table entered(id int, a text[], t tsvector, j jsonb);
create index entered_a on entered using gin (a) with (fastupdate = off);
create index entered_all on entered using gin (t, j, a) with (fastupdate = on, gin_pending_list_limit = 64);
create index entered_paths on entered using gin (j jsonb_path_ops) with (fastupdate = off);
insert into entered
  select i, array[(select string_agg(md5(g || 'of' || i), '') from generate_series(1, 40 + i % 35) g), 'common', null],
    to_tsvector('simple', 'row ' || i || ' of ' || i % 10), jsonb_build_object('n', i % 50, 'tags', jsonb_build_array('x', i % 7))
  from generate_series(1, 500) i;
insert into entered values (-1, null, null, null), (-2, '{}', '', '{}'), (-3, array[null::text], '', '[]');
-- Rows whose keys fill more than a page of the pending list.
insert into entered
  select 1000 + i, array(select 'k' || g * i from generate_series(1, 700) g),
    array_to_tsvector(array(select 'word' || g * i from generate_series(1, 1500) g)), '{"wide": true}'
  from generate_series(1, 8) i;
alter index entered_all set (gin_pending_list_limit = 4096);
insert into entered
  select 2000 + i, array(select 'k' || g * i from generate_series(1, 100) g), to_tsvector('simple', 'late ' || i), '{"wide": 1}'
  from generate_series(1, 60) i;
select gin_clean_pending_list('entered_all');
delete from entered where id % 2 = 0;
vacuum entered;
insert into entered select i, array['common', 'x' || i], to_tsvector('simple', 'row ' || i), '{"n": 1}'
  from generate_series(5001, 5400) i;
vacuum entered;
