//! What is no WAL, so that it does not come along (law 11): one line each where it happens, with the way to have it.

use std::path::Path;

use crate::catalog::Access;
use crate::endpoint::pgdata_of;
use crate::error::Result;
use crate::receiver::SLOT;
use crate::repository::Repository;

/// Says that unlogged relations are empty in a directory that was made.
pub(crate) fn unlogged(count: u64) -> Option<String> {
    (count > 0).then(|| {
        format!("{count} unlogged relations are empty here, as after a crash: ALTER TABLE ... SET LOGGED, where they are full, keeps a table")
    })
}

/// Says which replication slots of a data directory are not where its history goes.
pub(crate) fn slots(pgdata: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pgdata.join("pg_replslot"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != SLOT && !name.ends_with(".tmp"))
        .collect();
    names.sort();
    let line = |name: String| {
        format!(
            "replication slot {name} stays behind: make it where it is needed, with pg_create_logical_replication_slot or \
             pg_create_physical_replication_slot"
        )
    };
    names.into_iter().map(line).collect()
}

/// Says that subscriptions take nothing in, and how they do.
pub(crate) fn subscriptions(access: &Access, way: &str) -> Option<String> {
    let names = &access.subscriptions;
    (!names.is_empty()).then(|| {
        format!(
            "subscriptions take in nothing here, because the changes are meant for the original: {}; {way}",
            names.join(", ")
        )
    })
}

impl Repository {
    /// Says which replication slots of a branch's endpoint do not go where its history goes; nothing of a revision that begins with no branch.
    pub(crate) fn slots_of(&self, rev: Option<&str>) -> Result<Vec<String>> {
        let named = self.named(&self.revision(rev)?.base)?;
        let pgdata = named.branch().map(|branch| pgdata_of(&self.neon_dir, branch));
        Ok(pgdata.map_or_else(Vec::new, |pgdata| slots(&pgdata)))
    }
}

#[cfg(test)]
mod tests {
    use neon_postgres::catalog::Secret;

    use super::*;

    #[test]
    fn slots_are_told_and_ours_is_not() {
        let pgdata = tempfile::tempdir().expect("temporary directory");
        assert_eq!(slots(pgdata.path()), Vec::<String>::new());
        for name in ["sub", SLOT, "standby", "standby.tmp"] {
            std::fs::create_dir_all(pgdata.path().join("pg_replslot").join(name)).expect("mkdir");
        }
        let told = slots(pgdata.path());
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("replication slot standby stays"), "{told:?}");
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let mut access = Access {
            superuser: "postgres".to_owned(),
            secret: Secret::None,
            database: "postgres".to_owned(),
            subscriptions: Vec::new(),
        };
        assert_eq!((unlogged(0), subscriptions(&access, "")), (None, None));
        access.subscriptions.push("orders".to_owned());
        let told = subscriptions(&access, "ask for it").expect("a line");
        assert!(
            told.ends_with(": orders; ask for it") && unlogged(2).is_some(),
            "{told}"
        );
    }
}
