//! The password of the cluster's own superuser: ours where nobody has set one, and how it is told.

use neon_postgres::catalog::Secret;
use neon_transport::{percent_encoded, scram};
use neon_types::Lsn;

use crate::catalog::Access;
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::postgres;
use crate::repository::Repository;
use crate::sockets;

/// Whose the password of a superuser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This repository's.
    Ours,
    /// Nobody has set one.
    Nobodys,
    /// Another repository drew it.
    Origins,
    /// Somebody has set it.
    Own,
}

/// What became of it at a start.
pub(crate) struct PasswordSet {
    /// Where the WAL of setting it ends.
    pub end: Lsn,
    /// A remark.
    pub note: String,
}

impl Whose {
    fn of(secret: &Secret, password: &str) -> Whose {
        match secret {
            Secret::None => Whose::Nobodys,
            Secret::Elsewhere => Whose::Own,
            Secret::Kept(kept) if scram::is_of_password(kept, password) => Whose::Ours,
            Secret::Kept(kept) if scram::is_of_drawn(kept) => Whose::Origins,
            Secret::Kept(_) => Whose::Own,
        }
    }

    /// Returns true for one that this repository's takes the place of.
    fn gives_way(self) -> bool {
        match self {
            Whose::Nobodys | Whose::Origins => true,
            Whose::Ours | Whose::Own => false,
        }
    }
}

impl Repository {
    /// Returns whose password opens a cluster over TCP.
    pub(crate) fn whose_password(&self, access: &Access) -> Result<Whose> {
        Ok(Whose::of(&access.secret, &self.password()?))
    }

    /// Returns true when [`Repository::ensure_password`] will set one.
    pub(crate) fn password_is_due(&self, name: &str, file: &EndpointFile) -> Result<bool> {
        let access = self.door(name, file)?.access()?;
        Ok(self.whose_password(&access)?.gives_way())
    }

    /// Gives the endpoint's superuser the repository's password, unless that has one of its own.
    pub(crate) fn ensure_password(&self, name: &str, file: &EndpointFile) -> Result<Option<PasswordSet>> {
        let door = self.door(name, file)?;
        let access = door.access()?;
        let whose = self.whose_password(&access)?;
        if !whose.gives_way() {
            return Ok(None);
        }
        let end = self
            .runtime
            .block_on(postgres::set_password(&door, &self.verifier()?))?;
        let superuser = &access.superuser;
        let before = match whose {
            Whose::Origins => "the one that its origin drew opens nothing here",
            _ => "it had none",
        };
        Ok(Some(PasswordSet {
            end,
            note: format!(
                "the password of superuser '{superuser}' is this repository's now, as 'neon uri' shows it: {before}"
            ),
        }))
    }

    /// Returns a verifier of the repository's password, which says that it is one that was drawn.
    pub(crate) fn verifier(&self) -> Result<String> {
        let random: [u8; 16] = self.world().random();
        let random = random.first_chunk::<8>().copied().unwrap_or_default();
        let salt = scram::salt_of_drawn(random);
        scram::make_verifier(&self.password()?, &salt, scram::DEFAULT_ITERATIONS)
            .map_err(|error| RepoError::refused(error.to_string(), "remove .neon/password to draw another"))
    }

    /// Returns how the superuser connects to an endpoint, with a remark where that is not over TCP with our password.
    pub(crate) fn login(
        &self,
        name: &str,
        file: &EndpointFile,
        access: &Access,
    ) -> Result<(String, Option<String>)> {
        let (user, database) = (
            percent_encoded(&access.superuser),
            percent_encoded(&access.database),
        );
        let port = file.port;
        if self.whose_password(access)? == Whose::Ours {
            let password = self.password()?;
            return Ok((
                format!("postgresql://{user}:{password}@127.0.0.1:{port}/{database}"),
                None,
            ));
        }
        let directory = self.socket_directory(name);
        let superuser = &access.superuser;
        let mut note = format!(
            "superuser '{superuser}' has a password of its own, which stays and is asked for over TCP"
        );
        if file.branch.is_some() {
            let role = postgres::quoted_name(superuser);
            note.push_str(&format!(
                "; for one that neon knows: ALTER ROLE {role} PASSWORD NULL, then stop and start"
            ));
        }
        if sockets::fits(&directory) {
            let directory = percent_encoded(&directory.to_string_lossy());
            return Ok((
                format!("postgresql://{user}@{directory}:{port}/{database}"),
                Some(note),
            ));
        }
        note.push_str("; 'neon psql' needs none");
        Ok((
            format!("postgresql://{user}@127.0.0.1:{port}/{database}"),
            Some(note),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_somebody_set_is_theirs() {
        let made = |password: &str, salt: &[u8]| {
            Secret::Kept(scram::make_verifier(password, salt, 4096).expect("a verifier"))
        };
        let drawn = scram::salt_of_drawn(*b"12345678");
        for (secret, whose) in [
            (Secret::None, Whose::Nobodys),
            (Secret::Elsewhere, Whose::Own),
            (made("ours", &drawn), Whose::Ours),
            (made("ours", b"a salt of Postgres"), Whose::Ours),
            (made("theirs", &drawn), Whose::Origins),
            (made("theirs", b"a salt of Postgres"), Whose::Own),
            (Secret::Kept("md5e3c9c1d1c0bfa2d4b0f7".to_owned()), Whose::Own),
        ] {
            assert_eq!(Whose::of(&secret, "ours"), whose, "{secret:?}");
        }
    }
}
