//! Roles: `pg_authid`.

use super::{Row, name_at, u32_at};

/// Oid of `pg_authid`.
pub const PG_AUTHID: u32 = 1260;

/// `rolpassword`, counted from 0.
const PASSWORD: usize = 10;
/// Where its value lies.
const PASSWORD_AT: usize = 80;

/// A row of `pg_authid` (`FormData_pg_authid`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The role.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// It may do everything.
    pub superuser: bool,
    /// It may log in.
    pub login: bool,
    /// What is kept of its password.
    pub secret: Secret,
}

/// What is kept of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// There is none.
    None,
    /// This, of whatever kind.
    Kept(String),
    /// Something that is not stored in the row, or is compressed.
    Elsewhere,
}

impl Role {
    /// Oid of the superuser that initdb makes, whatever its name is: `BOOTSTRAP_SUPERUSERID`.
    pub const BOOTSTRAP: u32 = 10;

    /// Reads the columns of a row; none when it is too short.
    pub fn decode(row: &Row<'_>) -> Option<Role> {
        let columns = row.columns;
        let flag = |at: usize| Some(*columns.get(at)? != 0);
        Some(Role {
            oid: u32_at(columns, 0)?,
            name: name_at(columns, 4)?,
            superuser: flag(68)?,
            login: flag(72)?,
            secret: if row.is_null(PASSWORD) {
                Secret::None
            } else {
                text(columns.get(PASSWORD_AT..)?).map_or(Secret::Elsewhere, Secret::Kept)
            },
        })
    }
}

/// Reads a `text`, with a header of one byte or of four.
fn text(value: &[u8]) -> Option<String> {
    let first = *value.first()?;
    let bytes = match first & 3 {
        0 => {
            let length = usize::try_from(u32_at(value, 0)? >> 2).ok()?;
            value.get(4..length)?
        }
        1 | 3 if first != 1 => value.get(1..usize::from(first >> 1))?,
        _ => return None,
    };
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::row::tests::tuple;

    fn role(nulls: &[u8], password: &[u8]) -> Option<Role> {
        let mut columns = vec![0; PASSWORD_AT];
        columns[0] = 10;
        columns[4..9].copy_from_slice(b"alice");
        columns[68] = 1;
        columns[72] = 1;
        columns.extend_from_slice(password);
        let tuple = tuple(nulls, &columns);
        Role::decode(&Row::decode(&tuple)?)
    }

    #[test]
    fn a_role_has_a_name_and_what_is_kept_of_its_password() {
        let secret = |nulls: &[u8], password: &[u8]| role(nulls, password).map(|role| role.secret);
        let none = role(&[0xff, 0x01], &[]).expect("a role");
        assert_eq!((none.oid, none.name.as_str()), (Role::BOOTSTRAP, "alice"));
        assert!(none.superuser && none.login);
        assert_eq!(none.secret, Secret::None);
        let kept = |text: &str| Some(Secret::Kept(text.to_owned()));
        assert_eq!(
            secret(&[], &[(5 + 1) << 1 | 1, b'm', b'd', b'5', b'x', b'y', 0]),
            kept("md5xy")
        );
        let long = [&((4 + 130u32) << 2).to_le_bytes()[..], &[b'S'; 130]].concat();
        assert_eq!(secret(&[], &long), kept(&"S".repeat(130)));
        assert_eq!(secret(&[], &[1, 18, 0, 0]), Some(Secret::Elsewhere), "TOAST");
        assert_eq!(secret(&[], &[0xff, 1]), Some(Secret::Elsewhere), "cut");
        assert_eq!(
            secret(&[], &[2, 0, 0, 0, 9]),
            Some(Secret::Elsewhere),
            "compressed"
        );
        assert_eq!(
            secret(&[], &[0, 0, 0, 0]),
            Some(Secret::Elsewhere),
            "shorter than its header"
        );
    }
}
