//! `fsck --repair`: damaged and missing objects are asked for at the origins, by their names.

use std::collections::BTreeSet;
use std::sync::Arc;

use neon_objects::ObjectsError;
use neon_remotes::{Command, Fetched, perform_fetch_objects};
use neon_types::{ObjectId, with_causes};

use crate::api::{Checked, FromOrigins, ProgressSink, Repair, Repaired};
use crate::by_name::Repairs;
use crate::error::Result;
use crate::repository::Repository;

const NO_ORIGIN: &str = "no origin is configured that could be asked: neon origin add NAME URI";
const LEFT: &str = "what no origin has can only come from a backup of .neon/objects; without one, clone from an origin anew and push there first what \
                    can still be read here";

impl Repository {
    /// Checks, asks the origins for what is damaged, and checks again, as long as that helps: what was hidden behind a damaged commit or
    /// layer map is seen only then. Nothing is changed where no origin has what is wanted.
    pub(super) fn check_and_repair(
        self: &Arc<Self>,
        from: &FromOrigins,
        progress: &mut dyn ProgressSink,
    ) -> Result<Checked> {
        let config = self.config()?;
        let origins: Vec<(String, String)> = match &from.origin {
            Some(name) => vec![(name.clone(), config.origin(name)?.uri)],
            None => {
                let all = config.origins()?.into_iter();
                all.map(|(name, origin)| (name, origin.uri)).collect()
            }
        };
        let mut checked = self.check(progress)?;
        let mut repair = Repair::default();
        let mut asked: BTreeSet<ObjectId> = BTreeSet::new();
        loop {
            let damaged = self.damaged(&checked)?;
            let wanted: Vec<ObjectId> = damaged.iter().copied().filter(|id| asked.insert(*id)).collect();
            let before = repair.repaired.len();
            self.ask(&origins, from, wanted, &mut repair, progress)?;
            if repair.repaired.len() == before {
                repair.left = damaged.into_iter().collect();
                break;
            }
            checked = self.check(progress)?;
        }
        if !repair.left.is_empty() {
            repair
                .notes
                .push(if origins.is_empty() { NO_ORIGIN } else { LEFT }.to_owned());
        }
        checked.repair = Some(repair);
        Ok(checked)
    }

    /// Returns the objects of findings that are missing, or whose bytes are not those of their names.
    fn damaged(&self, checked: &Checked) -> Result<BTreeSet<ObjectId>> {
        let mut damaged = BTreeSet::new();
        for id in checked.findings.iter().filter_map(|finding| finding.object) {
            if !self.is_whole(id)? {
                damaged.insert(id);
            }
        }
        Ok(damaged)
    }

    fn is_whole(&self, id: ObjectId) -> Result<bool> {
        match self.objects.verify(id) {
            Ok(_) => Ok(true),
            Err(ObjectsError::Missing(_) | ObjectsError::Damaged { .. }) => Ok(false),
            // A disk that does not give the bytes has lost them.
            Err(ObjectsError::Io { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks one origin after the other for what those before did not have.
    fn ask(
        self: &Arc<Self>,
        origins: &[(String, String)],
        from: &FromOrigins,
        mut wanted: Vec<ObjectId>,
        repair: &mut Repair,
        progress: &mut dyn ProgressSink,
    ) -> Result<()> {
        let ours = self.config()?.repository();
        for (name, uri) in origins {
            if wanted.is_empty() {
                break;
            }
            let sink = Arc::new(Repairs(Arc::clone(self)));
            let asked = wanted.clone();
            let fetched = self.talk(
                uri,
                from.password.as_ref(),
                &Command::FetchObjects,
                progress,
                |channel, options| async move {
                    perform_fetch_objects(channel, sink, ours, &asked, options).await
                },
            );
            match fetched {
                Err(error) if progress.cancelled() => return Err(error),
                Err(error) => repair
                    .notes
                    .push(format!("origin '{name}': {}", with_causes(&error))),
                Ok(fetched) => {
                    let wrong = wanted
                        .iter()
                        .zip(fetched)
                        .filter_map(|(id, fetched)| match fetched {
                            Fetched::Wrong(reason) => Some(format!(
                                "origin '{name}' sent something else for object {id}: {reason}"
                            )),
                            Fetched::Arrived(_) | Fetched::NotThere => None,
                        });
                    repair.notes.extend(wrong);
                }
            }
            // A conversation that broke may have brought some.
            let mut left = Vec::new();
            for id in wanted {
                if !self.is_whole(id)? {
                    left.push(id);
                    continue;
                }
                repair.repaired.push(Repaired {
                    object: id,
                    origin: name.clone(),
                    bytes: self.objects.len(id)?,
                });
            }
            wanted = left;
        }
        Ok(())
    }
}
