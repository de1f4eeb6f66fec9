//! `fsck --boot`: Postgres is asked. A throw-away server is started at the head of each branch and checks what it finds there.

use neon_compute::{Boot, Purpose};
use neon_types::{Lsn, with_causes};

use crate::api::{Booted, Finding, Progress, ProgressSink, Role};
use crate::directory::{Run, find_installation};
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::postgres::Door;
use crate::repository::Repository;
use crate::resolve::Target;

use super::amcheck::{self, Amcheck};

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
        functions: bool,
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
            let found = match self.boot(&target, functions, progress) {
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

    fn boot(&self, target: &Target, functions: bool, progress: &mut dyn ProgressSink) -> Result<Found> {
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
                settings: None,
            };
            self.build(
                &name,
                &timeline,
                position.lsn,
                &boot,
                &target.commit.settings,
                progress,
            )?;
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
                role: Role::Copy,
            }
        };
        let found = self
            .run_postgres(&name, &installation, &run, progress)
            .and_then(|_| {
                let file = self
                    .endpoint_file(&name)?
                    .ok_or_else(|| RepoError::NotRunning(name.clone()))?;
                let door = self.door(&name, &file)?;
                let schema = format!("neon_{}", neon_types::RepoId(self.world().random()));
                self.runtime.block_on(check(&door, functions, &schema, progress))
            });
        let _exclusive = self.exclusive();
        self.stop(Some(&name), false)?;
        found
    }
}

async fn check(door: &Door, functions: bool, schema: &str, progress: &mut dyn ProgressSink) -> Result<Found> {
    let mut found = Found::default();
    let access = door.access()?;
    let databases = amcheck::databases(&mut door.enter().await?).await?;
    for database in databases {
        let mut session = door.enter_database(&access, &database).await?;
        match Amcheck::make(&mut session, door.version(), schema).await {
            Ok(mut amcheck) => {
                check_database(&mut amcheck, &database, functions, progress, &mut found).await?;
            }
            Err(error) => {
                found.notes.push(format!(
                    "amcheck is not there for this Postgres ({}): it was started, its relations were not checked",
                    amcheck::message(&error)
                ));
                return Ok(found);
            }
        }
    }
    Ok(found)
}

async fn check_database(
    amcheck: &mut Amcheck<'_>,
    database: &str,
    functions: bool,
    progress: &mut dyn ProgressSink,
    found: &mut Found,
) -> Result<()> {
    let checks = amcheck.checks(functions).await?;
    found.notes.extend(amcheck::remark(database, &checks));
    let total = checks.all.len() as u64;
    for (done, check) in (1..).zip(&checks.all) {
        if progress.cancelled() {
            return Err(RepoError::Interrupted);
        }
        found.relations += 1;
        let problems = amcheck.run(check, functions).await?;
        let (schema, name) = (&check.schema, &check.name);
        let told = problems
            .iter()
            .map(|problem| format!("{database}.{schema}.{name}: {problem}"));
        found.problems.extend(told);
        progress.report(&Progress {
            label: format!("amcheck in {database}"),
            done,
            total,
            unit: "relations".into(),
        });
    }
    Ok(())
}
