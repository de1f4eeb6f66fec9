//! `fsck --boot`: Postgres is asked. A throw-away server is started at the head of each branch and checks what it finds there.

use std::path::Path;

use neon_compute::{Boot, Purpose};
use neon_types::{Lsn, with_causes};
use tokio_postgres::Client;

use crate::api::{Booted, Finding, Progress, ProgressSink};
use crate::directory::{Run, find_installation};
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::postgres::connect_to;
use crate::repository::Repository;
use crate::resolve::Target;

/// Every database that can be connected to.
const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1";

/// What amcheck can check: schema and name, the query that does it. Unlogged relations are empty here. Functions in index expressions are
/// found as their makers did, in the index' schema.
const CHECKS: &str = "
SELECT n.nspname, c.relname, format(CASE a.amname
         WHEN 'btree' THEN 'SELECT bt_index_check(%s::oid, true)'
         WHEN 'gin' THEN 'SELECT gin_index_check(%s::oid)'
         WHEN 'heap' THEN 'SELECT format(''block %%s, item %%s: %%s'', blkno, offnum, msg) FROM verify_heapam(%s::oid, check_toast => true)'
       END, c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
     LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relpersistence = 'p' AND c.relkind IN ('r', 't', 'm', 'i') AND coalesce(i.indisvalid AND i.indisready, true)
  AND (a.amname IN ('btree', 'heap') OR a.amname = 'gin' AND to_regproc('gin_index_check') IS NOT NULL)
ORDER BY 1, 2";

/// What was found on one branch.
#[derive(Debug, Default)]
struct Found {
    relations: u64,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Repository {
    /// Checks the head of each branch with a server of its own. What it writes is thrown away with its directory.
    pub(super) fn boot_branches(
        &self,
        findings: &mut Vec<Finding>,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<Booted>> {
        let heads = self.heads()?;
        let mut booted = Vec::new();
        for (branch, _) in &heads {
            if progress.cancelled() {
                return Err(RepoError::Interrupted);
            }
            progress.report(&Progress {
                label: format!("asking Postgres about {branch}"),
                done: booted.len() as u64,
                total: heads.len() as u64,
                unit: "branches".into(),
            });
            let target = self.resolve(Some(branch))?;
            let found = match self.boot(&target, progress) {
                Ok(found) => found,
                Err(_) if progress.cancelled() => return Err(RepoError::Interrupted),
                Err(error) => Found {
                    problems: vec![with_causes(&error)],
                    ..Found::default()
                },
            };
            findings.extend(found.problems.into_iter().map(|problem| Finding {
                object: None,
                message: format!("branch {branch} at {}: {problem}", target.place.lsn),
            }));
            booted.push(Booted {
                branch: branch.clone(),
                lsn: target.place.lsn,
                relations: found.relations,
                notes: found.notes,
            });
        }
        Ok(booted)
    }

    fn boot(&self, target: &Target, progress: &mut dyn ProgressSink) -> Result<Found> {
        let position = target.place.position();
        let timeline = self.timeline(position.timeline)?;
        let name = format!("fsck-{}-{:X}", position.timeline.short(), position.lsn.0);
        let installation = find_installation(&self.caller, Some(timeline.state().version))?;
        let run = {
            let _exclusive = self.exclusive();
            let port = self.choose_port(&name, None, None)?;
            let (tli, history) = self.number_of_its_own(&target.place, "checked by neon")?;
            let boot = Boot {
                tli,
                history,
                purpose: Purpose::ReadWrite,
                slot: None,
            };
            self.build(&name, &timeline, position.lsn, &boot, "", progress)?;
            self.write_endpoint_file(
                &name,
                &EndpointFile {
                    branch: None,
                    timeline: position.timeline,
                    built_at: position.lsn,
                    port,
                    housekeeping_end: Lsn::INVALID,
                    boot_id: String::new(),
                    pg_version_num: 0,
                },
            )?;
            Run {
                port,
                socket_directory: self.socket_directory(&name),
                autovacuum: false,
                read_only: false,
            }
        };
        let found = self
            .run_postgres(&name, &installation, &run, progress)
            .and_then(|_| {
                self.runtime
                    .block_on(check(&run.socket_directory, run.port, progress))
            });
        let _exclusive = self.exclusive();
        self.stop(Some(&name), false)?;
        found
    }
}

async fn check(socket_directory: &Path, port: u16, progress: &mut dyn ProgressSink) -> Result<Found> {
    let mut found = Found::default();
    let databases = connect_to(socket_directory, port, "postgres").await?;
    for row in databases.query(DATABASES, &[]).await? {
        let database: String = row.try_get(0)?;
        let client = connect_to(socket_directory, port, &database).await?;
        if let Err(error) = client
            .batch_execute("SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS amcheck")
            .await
        {
            found.notes.push(format!(
                "amcheck is not there for this Postgres ({}): it was started, its relations were not checked",
                message(&error)
            ));
            return Ok(found);
        }
        check_database(&client, &database, progress, &mut found).await?;
    }
    Ok(found)
}

async fn check_database(
    client: &Client,
    database: &str,
    progress: &mut dyn ProgressSink,
    found: &mut Found,
) -> Result<()> {
    let checks = client.query(CHECKS, &[]).await?;
    let total = checks.len() as u64;
    for (done, row) in (1..).zip(checks) {
        if progress.cancelled() {
            return Err(RepoError::Interrupted);
        }
        let (schema, name, query): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        client
            .execute(
                "SELECT set_config('search_path', quote_ident($1) || ', public', false)",
                &[&schema],
            )
            .await?;
        found.relations += 1;
        match client.simple_query(&query).await {
            Ok(rows) => found.problems.extend(rows.iter().filter_map(|row| {
                match row {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row
                        .get(0)
                        .filter(|problem| !problem.is_empty())
                        .map(|problem| format!("{database}.{schema}.{name}: {problem}")),
                    _ => None,
                }
            })),
            Err(error) => found
                .problems
                .push(format!("{database}.{schema}.{name}: {}", message(&error))),
        }
        progress.report(&Progress {
            label: format!("amcheck in {database}"),
            done,
            total,
            unit: "relations".into(),
        });
    }
    Ok(())
}

/// Returns what the server said.
fn message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => with_causes(error),
    }
}
