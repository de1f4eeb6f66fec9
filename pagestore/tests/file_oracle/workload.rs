//! What is done to the server between the two imports.

use super::server::Server;

/// Runs everything that the record types of this release can express.
pub fn run(server: &Server, major: u16) {
    server.sql("postgres", TABLES);
    server.sql("postgres", TRANSACTIONS);
    server.sql("postgres", CATALOGS);
    // From here on one prepared transaction holds its locks.
    server.sql("postgres", PREPARED);
    // Savepoints of two lockers and updaters of the same rows: multixacts.
    server.pgbench(MULTIXACTS, 8, 1200);
    server.sql("postgres", VACUUM);
    server.sql("postgres", "CHECKPOINT;");
    databases(server, major);
    server.sql("postgres", AFTER_CHECKPOINT);
    server.pgbench(UPDATES, 4, 500);
}

/// Makes so many multixacts and transactions that freezing everything removes files of every SLRU.
pub fn truncation(server: &Server) {
    server.sql("postgres", BURN);
    for database in ["postgres", "template1", "template0"] {
        server.sql(database, "VACUUM (FREEZE);");
    }
}

fn databases(server: &Server, major: u16) {
    server.sql("postgres", "CREATE DATABASE model;");
    server.sql(
        "model",
        "CREATE TABLE kept (id int PRIMARY KEY, t text); INSERT INTO kept SELECT g, repeat('x', 200) FROM generate_series(1, 3000) g;
         CREATE UNLOGGED TABLE fast (id int PRIMARY KEY); INSERT INTO fast SELECT generate_series(1, 100);
         CREATE SEQUENCE numbers; SELECT nextval('numbers') FROM generate_series(1, 50);
         DELETE FROM kept WHERE id > 2000; VACUUM kept; VACUUM FULL pg_class;",
    );
    let strategies: &[&str] = if major >= 15 {
        &["STRATEGY = FILE_COPY", "STRATEGY = WAL_LOG"]
    } else {
        &["TEMPLATE = model"]
    };
    for (number, strategy) in strategies.iter().enumerate() {
        let template = if major >= 15 { "TEMPLATE = model" } else { "" };
        server.sql(
            "postgres",
            &format!("CREATE DATABASE copy{number} {template} {strategy};"),
        );
        server.sql(
            &format!("copy{number}"),
            "INSERT INTO kept SELECT g, 'again' FROM generate_series(5000, 6000) g; UPDATE kept SET t = t || 'y' WHERE id % 7 = 0;
             DELETE FROM kept WHERE id > 100; VACUUM kept; INSERT INTO kept SELECT g, 'more' FROM generate_series(7000, 9000) g;",
        );
    }
    // A copy of a copy, and one that goes again.
    let strategy = if major >= 15 { "STRATEGY = FILE_COPY" } else { "" };
    server.sql(
        "postgres",
        &format!("CREATE DATABASE second TEMPLATE = copy0 {strategy};"),
    );
    server.sql(
        "second",
        "UPDATE kept SET t = 'second' WHERE id < 50; CREATE TABLE own (a int); INSERT INTO own VALUES (1);",
    );
    server.sql(
        "postgres",
        &format!("CREATE DATABASE gone TEMPLATE = model {strategy};"),
    );
    server.sql("gone", "INSERT INTO kept VALUES (0, 'lost');");
    server.sql("postgres", "DROP DATABASE gone;");
}

const TABLES: &str = "
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, note text);
INSERT INTO accounts SELECT g, 0, repeat('n', g % 60) FROM generate_series(1, 20000) g;
CREATE INDEX ON accounts (balance);
CREATE TABLE wide (id serial, body text);
ALTER TABLE wide ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO wide (body) SELECT repeat(md5(g::text), 300) FROM generate_series(1, 200) g;
UPDATE wide SET body = body || 'tail' WHERE id % 3 = 0;
CREATE TABLE loaded (a int, b text);
COPY loaded FROM PROGRAM 'seq -f \"%.0f,line\" 1 30000' WITH (FORMAT csv);
CREATE UNIQUE INDEX ON loaded (a);
DELETE FROM loaded WHERE a > 10000;
VACUUM loaded;
INSERT INTO loaded SELECT g, 'back' FROM generate_series(20001, 30000) g;
DELETE FROM loaded WHERE a > 25000;
VACUUM (FREEZE) loaded;
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
INSERT INTO scratch SELECT generate_series(1, 1000);
CREATE TEMP TABLE own (id int PRIMARY KEY);
INSERT INTO own SELECT generate_series(1, 1000);
CREATE TABLE cut (id int PRIMARY KEY, filler text);
INSERT INTO cut SELECT g, repeat('f', 100) FROM generate_series(1, 5000) g;
TRUNCATE cut;
INSERT INTO cut SELECT g, repeat('g', 100) FROM generate_series(1, 100) g;
CREATE TABLE dropped (id int PRIMARY KEY);
INSERT INTO dropped SELECT generate_series(1, 100);
DROP TABLE dropped;
CREATE TABLE rewritten (id int PRIMARY KEY, v int);
INSERT INTO rewritten SELECT g, g FROM generate_series(1, 2000) g;
ALTER TABLE rewritten ALTER COLUMN v TYPE bigint;
CLUSTER rewritten USING rewritten_pkey;
CREATE TABLE parts (id int, v int) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
INSERT INTO parts SELECT g, g FROM generate_series(0, 1999) g;
UPDATE parts SET id = id + 1000 WHERE id < 100;
CREATE SEQUENCE counter;
SELECT count(nextval('counter')) FROM generate_series(1, 500);
SELECT lo_from_bytea(0, decode(repeat('ab', 30000), 'hex'));
";

const TRANSACTIONS: &str = "
CREATE TABLE sub (id int, v text);
BEGIN;
INSERT INTO sub VALUES (1, 'top');
SAVEPOINT a; INSERT INTO sub VALUES (2, 'a'); SAVEPOINT b; INSERT INTO sub VALUES (3, 'b'); ROLLBACK TO b;
INSERT INTO sub VALUES (4, 'c'); RELEASE a; INSERT INTO sub VALUES (5, 'd');
COMMIT;
BEGIN; CREATE TABLE never (id int PRIMARY KEY); INSERT INTO never SELECT generate_series(1, 500); ROLLBACK;
DO $$ BEGIN
  FOR i IN 1..70000 LOOP
    BEGIN
      INSERT INTO sub VALUES (i, 'loop');
      IF i % 10 = 0 THEN RAISE division_by_zero; END IF;
    EXCEPTION WHEN division_by_zero THEN NULL; END;
  END LOOP;
END $$;
CREATE TABLE upsert (id int PRIMARY KEY, n int);
INSERT INTO upsert SELECT g % 50, 1 FROM generate_series(1, 50) g ON CONFLICT (id) DO UPDATE SET n = upsert.n + 1;
INSERT INTO upsert SELECT g, 1 FROM generate_series(1, 100) g ON CONFLICT (id) DO UPDATE SET n = upsert.n + 1;
BEGIN; SELECT count(*) FROM (SELECT * FROM accounts WHERE id < 300 FOR UPDATE) s; COMMIT;
BEGIN; SELECT count(*) FROM (SELECT * FROM accounts WHERE id < 300 FOR SHARE) s; COMMIT;
UPDATE accounts SET balance = balance + 1 WHERE id % 5 = 0;
UPDATE accounts SET note = note || 'm' WHERE id % 11 = 0;
DELETE FROM accounts WHERE id % 97 = 0;
SELECT pg_logical_emit_message(true, 'neon', 'transactional');
SELECT pg_logical_emit_message(false, 'neon', 'at once');
SELECT pg_replication_origin_create('there');
SELECT pg_replication_origin_advance('there', '0/123');
SELECT pg_replication_origin_create('gone');
SELECT pg_replication_origin_advance('gone', '0/9');
SELECT pg_replication_origin_drop('gone');
SELECT pg_replication_origin_session_setup('there');
BEGIN;
SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2020-01-02 03:04:05+00');
INSERT INTO sub VALUES (-1, 'from there');
COMMIT;
SELECT pg_replication_origin_session_reset();
";

const PREPARED: &str = "
BEGIN; INSERT INTO sub VALUES (100, 'kept'); SAVEPOINT s; CREATE TABLE prepared (id int PRIMARY KEY); INSERT INTO prepared VALUES (1);
PREPARE TRANSACTION 'kept';
BEGIN; INSERT INTO sub VALUES (101, 'done'); SAVEPOINT s; INSERT INTO sub VALUES (102, 'done'); CREATE TABLE done (id int PRIMARY KEY);
PREPARE TRANSACTION 'done';
BEGIN; INSERT INTO sub VALUES (103, 'undone'); CREATE TABLE undone (id int PRIMARY KEY); INSERT INTO undone VALUES (1);
PREPARE TRANSACTION 'undone';
BEGIN; INSERT INTO sub VALUES (104, 'drop'); DROP TABLE cut;
PREPARE TRANSACTION 'drop';
COMMIT PREPARED 'done';
ROLLBACK PREPARED 'undone';
COMMIT PREPARED 'drop';
";

const CATALOGS: &str = "
VACUUM FULL pg_class;
VACUUM FULL pg_database;
REINDEX TABLE pg_attribute;
REINDEX TABLE accounts;
ANALYZE;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
DROP FUNCTION f();
CREATE MATERIALIZED VIEW m AS SELECT balance, count(*) FROM accounts GROUP BY 1;
REFRESH MATERIALIZED VIEW m;
CREATE ROLE somebody;
DROP ROLE somebody;
";

const MULTIXACTS: &str = "
\\set low random(1, 20)
\\set high random(21, 40)
BEGIN;
SELECT id FROM accounts WHERE id = :low FOR KEY SHARE;
SAVEPOINT s;
UPDATE accounts SET note = 'k' WHERE id = :high;
RELEASE s;
SELECT id FROM accounts WHERE id = :high FOR SHARE;
END;
";

const VACUUM: &str = "
VACUUM accounts;
VACUUM (FREEZE) sub;
UPDATE sub SET v = 'thawed' WHERE id % 1000 = 1;
BEGIN; SELECT count(*) FROM (SELECT * FROM sub WHERE id % 777 = 0 FOR UPDATE) s; COMMIT;
DELETE FROM sub WHERE id > 60000;
VACUUM sub;
DELETE FROM wide WHERE id > 100;
VACUUM wide;
INSERT INTO wide (body) SELECT repeat('z', 100) FROM generate_series(1, 1000) g;
VACUUM (FREEZE, DISABLE_PAGE_SKIPPING);
";

const AFTER_CHECKPOINT: &str = "
INSERT INTO accounts SELECT g, 0, 'late' FROM generate_series(30001, 35000) g;
UPDATE accounts SET balance = -1 WHERE id % 400 = 0;
DELETE FROM accounts WHERE id > 34000;
VACUUM accounts;
UPDATE wide SET body = 'short' WHERE id % 2 = 0;
SELECT count(nextval('counter')) FROM generate_series(1, 100);
BEGIN; INSERT INTO sub VALUES (105, 'late'); PREPARE TRANSACTION 'late';
BEGIN; INSERT INTO sub VALUES (106, 'soon'); PREPARE TRANSACTION 'soon';
COMMIT PREPARED 'soon';
";

const UPDATES: &str = "
\\set id random(1, 20000)
BEGIN;
UPDATE accounts SET balance = balance + 1 WHERE id = :id;
SAVEPOINT s;
INSERT INTO sub VALUES (:id, 'bench');
END;
";

/// More than two files of multixact offsets, of members, of commit timestamps, and one of transaction status.
const BURN: &str = "
CREATE TABLE m (id int PRIMARY KEY, v int);
INSERT INTO m SELECT g, 0 FROM generate_series(1, 100) g;
DO $$ BEGIN
  FOR i IN 1..140000 LOOP
    PERFORM 1 FROM m WHERE id = i % 100 + 1 FOR KEY SHARE;
    BEGIN
      UPDATE m SET v = v + 1 WHERE id = i % 100 + 1;
    EXCEPTION WHEN division_by_zero THEN NULL; END;
    COMMIT;
  END LOOP;
END $$;
DO $$ BEGIN FOR i IN 1..850000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$;
UPDATE pg_database SET datallowconn = true;
";
