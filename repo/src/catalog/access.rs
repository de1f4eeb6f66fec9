//! Who we are in a cluster, and where we connect to: its own superuser, whatever its name is, and a database that lets one in.

use neon_pagestore::Timeline;
use neon_postgres::catalog::{Database, PG_AUTHID, PG_DATABASE, PG_SUBSCRIPTION, Role, Secret, Subscription};
use neon_types::Lsn;

use super::{GLOBAL, Reader};
use crate::error::{RepoError, Result};

/// Databases that are there in most clusters, in the order in which we try them.
const USUAL: [&str; 2] = ["postgres", "template1"];

/// What a cluster lets us do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Name of the superuser that initdb made.
    pub superuser: String,
    /// What is kept of its password.
    pub secret: Secret,
    /// A database that lets one in.
    pub database: String,
    /// Names of the subscriptions that would take in changes of another cluster.
    pub subscriptions: Vec<String>,
}

impl Access {
    /// Reads it at a position.
    ///
    /// # Errors
    /// A refusal where the superuser may not log in, or no database lets anybody in: nothing of ours could reach such a server.
    pub(crate) fn read(timeline: &Timeline, lsn: Lsn) -> Result<Access> {
        let version = timeline.version();
        let mut reader = Reader::new(timeline, lsn);
        let maps = reader.maps()?;
        let map = maps.get(&(GLOBAL, 0)).cloned().unwrap_or_default();
        let roles = reader.shared(&map, PG_AUTHID, |row| {
            Role::decode(row).filter(|role| role.oid == Role::BOOTSTRAP)
        })?;
        let databases = reader.shared(&map, PG_DATABASE, |row| Database::decode(version, row.columns))?;
        let subscriptions = reader.shared(&map, PG_SUBSCRIPTION, |row| {
            Subscription::decode(version, row.columns)
        })?;
        let enabled = subscriptions
            .into_iter()
            .filter(|subscription| subscription.enabled);
        let superuser = superuser(roles)?;
        Ok(Access {
            superuser: superuser.name,
            secret: superuser.secret,
            database: database(&databases)?,
            subscriptions: enabled.map(|subscription| subscription.name).collect(),
        })
    }
}

fn superuser(roles: Vec<Role>) -> Result<Role> {
    let Some(role) = roles.into_iter().next_back() else {
        return Err(RepoError::refused(
            "the cluster has lost the superuser that initdb made (oid 10)",
            "give it back where the cluster runs on: Postgres itself needs it",
        ));
    };
    if role.superuser && role.login {
        return Ok(role);
    }
    let lacks = if role.superuser {
        "LOGIN"
    } else {
        "SUPERUSER LOGIN"
    };
    Err(RepoError::refused(
        format!(
            "the superuser '{}' that initdb made may not log in here as one",
            role.name
        ),
        format!(
            "choose a position before that, or export the branch, start it with 'postgres --single' and run ALTER ROLE \"{}\" {lacks}",
            role.name
        ),
    ))
}

fn database(databases: &[Database]) -> Result<String> {
    let open = || databases.iter().filter(|database| database.connections);
    let usual = USUAL
        .iter()
        .find_map(|name| open().find(|database| database.name == *name));
    match usual.or_else(|| open().next()) {
        Some(database) => Ok(database.name.clone()),
        None => Err(RepoError::refused(
            "no database of the cluster lets anybody in",
            "choose a position before that, or export the branch and run ALTER DATABASE ... ALLOW_CONNECTIONS true in 'postgres --single'",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(superuser: bool, login: bool) -> Role {
        Role {
            oid: Role::BOOTSTRAP,
            name: "alice".to_owned(),
            superuser,
            login,
            secret: Secret::None,
        }
    }

    fn databases(list: &[(&str, bool)]) -> Vec<Database> {
        let database = |(name, connections): &(&str, bool)| Database {
            oid: 5,
            name: (*name).to_owned(),
            connections: *connections,
        };
        list.iter().map(database).collect()
    }

    #[test]
    fn the_superuser_is_who_initdb_made() {
        assert_eq!(
            superuser(vec![role(true, true)]).expect("a superuser").name,
            "alice"
        );
        for (superuser_flag, login) in [(true, false), (false, true)] {
            superuser(vec![role(superuser_flag, login)]).expect_err("refused");
        }
        superuser(Vec::new()).expect_err("refused");
    }

    #[test]
    fn any_database_that_lets_one_in_will_do() {
        let choose = |list: &[(&str, bool)]| database(&databases(list)).ok();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(
            choose(&[("shop", true), ("template1", true), ("postgres", true)]),
            some("postgres")
        );
        assert_eq!(
            choose(&[("shop", true), ("template1", true), ("postgres", false)]),
            some("template1")
        );
        assert_eq!(choose(&[("template0", false), ("shop", true)]), some("shop"));
        assert_eq!(choose(&[("template0", false)]), None);
    }
}
