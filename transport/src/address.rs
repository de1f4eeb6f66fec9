//! The address of a repository behind `neon serve`: `postgresql://user:password@host:port/repository`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{Password, RequireAuth};

/// The port of `neon serve` when an address names none.
pub const DEFAULT_PORT: u16 = 6543;

/// Longest address, bytes.
const MAX_ADDRESS: usize = 2048;

/// Returns true for a name that a repository behind a server may have: 1 to 64 of `[a-z0-9._-]`, not beginning with `.` or
/// `-`.
pub fn is_repository_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

/// Returns true for a name that a user of a server may have: 1 to 63 of `[A-Za-z0-9._@-]`.
pub fn is_user_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@'))
}

/// Where a repository is, and who asks. `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or number of the host, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the repository, see [`is_repository_name`]. On the wire it is the database name.
    pub repository: String,
    /// User, if the URI names one.
    pub user: Option<String>,
    /// Password, if the URI holds one.
    pub password: Option<Password>,
    /// What the server has to prove: `?require_auth=`, as libpq calls it.
    pub require_auth: RequireAuth,
}

/// The text is not the address of a repository. No variant holds the text, for the password's sake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("the address does not begin with postgresql://")]
    Scheme,
    /// No host.
    #[error("the address names no host (expected postgresql://user@host:port/repository)")]
    Host,
    /// A port that is not 1..=65535.
    #[error("the port of the address is not a number from 1 to 65535")]
    Port,
    /// `%` without two hexadecimal digits, or bytes that are not UTF-8 or are NUL.
    #[error("the address has a bad percent escape")]
    Escape,
    /// No path, or one that is not a repository name.
    #[error(
        "'{0}' is not a repository name: the path of the address must be 1 to 64 of a-z 0-9 . _ - and not begin with . or -"
    )]
    Repository(String),
    /// A user name that is empty or too long.
    #[error("the user name of the address is empty or longer than 63 bytes")]
    User,
    /// `sslmode=require` and the like.
    #[error("sslmode={0} is not possible: there is no TLS in this release")]
    Tls(String),
    /// `require_auth` with a method that there is not.
    #[error("require_auth={0} is not possible: the methods are scram-sha-256 and none")]
    Auth(String),
    /// `?name=value` with a name that means nothing here.
    #[error("the address has an unknown option '{0}'")]
    Option(String),
    /// The same option a second time.
    #[error("the address has the option '{0}' twice")]
    Twice(String),
    /// Longer than 2048 bytes, or with spaces or control characters in it.
    #[error("the address is too long or holds characters that must be percent-encoded")]
    Form,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let rest = text
            .strip_prefix("postgresql://")
            .or_else(|| text.strip_prefix("postgres://"))
            .ok_or(AddressError::Scheme)?;
        if text.len() > MAX_ADDRESS || rest.chars().any(|c| c.is_control() || c == ' ') {
            return Err(AddressError::Form);
        }
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') || options.contains('@') {
            // A password with / or ? in it, cut in two: no message may show the second half.
            return Err(AddressError::Form);
        }
        let require_auth = read_options(options)?;
        // The last @, as browsers do it: an unencoded @ in a password is forgiven rather than sent to a wrong host.
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = parse_place(place)?;
        let (user, password) = match login {
            None => (None, None),
            Some(login) => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (login, None),
                };
                let user = decode(user)?;
                if user.is_empty() || user.len() > 63 {
                    return Err(AddressError::User);
                }
                (Some(user), password.map(decode).transpose()?.map(Password::new))
            }
        };
        let repository = decode(path)?;
        if !is_repository_name(&repository) {
            return Err(AddressError::Repository(repository));
        }
        let address = Address {
            host,
            port,
            repository,
            user,
            password: password.filter(|p| !p.reveal().is_empty()),
            require_auth,
        };
        // Escapes may make it longer than it came: what is written into a configuration must be readable again.
        if address.reveal().len() > MAX_ADDRESS {
            return Err(AddressError::Form);
        }
        Ok(address)
    }
}

impl Address {
    /// Returns `host:port`, as messages name the server.
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns the whole URI with the password in it, for a configuration file that only its owner may read.
    pub fn reveal(&self) -> String {
        self.uri(self.password.as_ref().map(Password::reveal))
    }

    fn uri(&self, password: Option<&str>) -> String {
        let mut uri = String::from("postgresql://");
        if let Some(user) = &self.user {
            uri.push_str(&percent_encoded(user));
            if let Some(password) = password {
                uri.push(':');
                uri.push_str(&percent_encoded(password));
            }
            uri.push('@');
        }
        let place = self.place();
        uri.push_str(&place);
        uri.push('/');
        uri.push_str(&self.repository);
        if self.require_auth == RequireAuth::Nothing {
            uri.push_str("?require_auth=none");
        }
        uri
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri(None))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.password.is_some() {
            ", password hidden"
        } else {
            ""
        };
        write!(f, "Address({self}{known})")
    }
}

fn parse_place(place: &str) -> Result<(String, u16), AddressError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(AddressError::Host)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(AddressError::Host);
        }
        match port.strip_prefix(':') {
            Some(port) => (host.to_owned(), Some(port)),
            None if port.is_empty() => (host.to_owned(), None),
            None => return Err(AddressError::Port),
        }
    } else {
        let (host, port) = match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        };
        let host = decode(host)?;
        // Anything else, decoded, would have another meaning where the address is written again.
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !host.chars().all(is_name) || host.len() > 255 {
            return Err(AddressError::Host);
        }
        (host, port)
    };
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().map_err(|_| AddressError::Port)?
        }
        Some(_) => return Err(AddressError::Port),
    };
    if port == 0 {
        Err(AddressError::Port)
    } else {
        Ok((host, port))
    }
}

/// Options that psql users have in their URIs and that mean what we do anyway are taken; nothing else is ignored silently.
fn read_options(options: &str) -> Result<RequireAuth, AddressError> {
    let mut require_auth = RequireAuth::default();
    let mut seen = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        match (name.as_str(), value.as_str()) {
            ("sslmode", "disable" | "allow" | "prefer") | ("application_name", _) => {}
            ("sslmode", _) => return Err(AddressError::Tls(value)),
            ("require_auth", methods) => require_auth = read_methods(methods)?,
            _ => return Err(AddressError::Option(name)),
        }
        if seen.contains(&name) {
            return Err(AddressError::Twice(name));
        }
        seen.push(name);
    }
    Ok(require_auth)
}

/// Reads a list such as `scram-sha-256,none`: with `none` in it no proof is required.
fn read_methods(methods: &str) -> Result<RequireAuth, AddressError> {
    let mut require_auth = RequireAuth::Scram;
    for method in methods.split(',') {
        match method {
            "scram-sha-256" => {}
            "none" => require_auth = RequireAuth::Nothing,
            other => return Err(AddressError::Auth(other.to_owned())),
        }
    }
    Ok(require_auth)
}

fn decode(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || {
                    rest.next()
                        .and_then(|b| char::from(b).to_digit(16))
                        .ok_or(AddressError::Escape)
                };
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    if bytes.contains(&0) {
        return Err(AddressError::Escape);
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Escape)
}

/// Returns a text as it stands in a part of a URI: all but letters, digits and `-._~` escaped.
pub fn percent_encoded(text: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    #[test]
    fn all_parts_are_read() {
        let address = parse("postgresql://al%40ice:p%3aw%2Fd@db.example:7000/shop").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("db.example", 7000));
        assert_eq!(address.repository, "shop");
        assert_eq!(address.user.as_deref(), Some("al@ice"));
        assert_eq!(address.password.as_ref().map(Password::reveal), Some("p:w/d"));
        assert_eq!(parse(&address.reveal()), Ok(address));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let address = parse("postgres://[::1]/shop?sslmode=prefer").unwrap();
        assert_eq!(
            (address.place().as_str(), address.user, address.password),
            ("[::1]:6543", None, None)
        );
    }

    #[test]
    fn the_password_is_never_shown() {
        let address = parse("postgresql://alice:hunter2@h/shop").unwrap();
        assert_eq!(address.to_string(), "postgresql://alice@h:6543/shop");
        assert_eq!(
            format!("{address:?}"),
            "Address(postgresql://alice@h:6543/shop, password hidden)"
        );
        for bad in [
            "postgresql://alice:hunter2@h:0/shop",
            "http://alice:hunter2@h/",
            "postgresql://alice:hunter2@h/Sh!",
            "postgresql://alice:1/hunter2@h/shop",
            "postgresql://alice:1?hunter2@h/shop",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_by_name() {
        use AddressError::*;
        let cases = [
            ("", Scheme),
            ("shop", Scheme),
            ("postgresql:///shop", Host),
            ("postgresql://h,g/shop", Host),
            ("postgresql://%2Ftmp/shop", Host),
            ("postgresql://al%40ab0/ex", Host),
            ("postgresql://h%3A1/shop", Host),
            ("postgresql://h%3Fx/shop", Host),
            ("postgresql://[::1/shop", Host),
            ("postgresql://h:65536/shop", Port),
            ("postgresql://h:+1/shop", Port),
            ("postgresql://h", Repository(String::new())),
            ("postgresql://h/..", Repository("..".into())),
            ("postgresql://h/-x", Repository("-x".into())),
            ("postgresql://h/a/b", Repository("a/b".into())),
            ("postgresql://@h/shop", User),
            ("postgresql://a%0@h/shop", Escape),
            ("postgresql://a%00@h/shop", Escape),
            ("postgresql://h/shop?sslmode=require", Tls("require".into())),
            ("postgresql://h/shop?service=x", Option("service".into())),
            (
                "postgresql://h/shop?require_Auth=none",
                Option("require_Auth".into()),
            ),
            (
                "postgresql://h/shop?requireauth=none",
                Option("requireauth".into()),
            ),
            (
                "postgresql://h/shop?channel_binding=require",
                Option("channel_binding".into()),
            ),
            ("postgresql://h/shop?password=x", Option("password".into())),
            ("postgresql://h/shop?require_auth=md5", Auth("md5".into())),
            ("postgresql://h/shop?require_auth=", Auth("".into())),
            ("postgresql://h/shop?require_auth=!none", Auth("!none".into())),
            (
                "postgresql://h/shop?require_auth=scram-sha-256,trust",
                Auth("trust".into()),
            ),
            (
                "postgresql://h/shop?require_auth=none&require_auth=scram-sha-256",
                Twice("require_auth".into()),
            ),
            ("postgresql://h/sh op", Form),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        let long = |password: &str| parse(&format!("postgresql://a:{}@h/shop", password.repeat(700)));
        assert!(long("x").is_ok());
        assert_eq!(long("!"), Err(Form), "escaped, it is too long to be read again");
    }

    #[test]
    fn a_proof_is_required_unless_the_address_says_otherwise() {
        let required = |text: &str| parse(text).unwrap().require_auth;
        assert_eq!(required("postgresql://h/shop"), RequireAuth::Scram);
        assert_eq!(
            required("postgresql://h/shop?require_auth=scram-sha-256"),
            RequireAuth::Scram
        );
        let waived = "postgresql://a@h:6543/shop?require_auth=none";
        assert_eq!(required(waived), RequireAuth::Nothing);
        assert_eq!(
            required("postgresql://h/shop?sslmode=disable&require_auth=scram-sha-256%2Cnone"),
            RequireAuth::Nothing
        );
        assert_eq!(
            parse(waived).unwrap().to_string(),
            waived,
            "it is kept, and shown"
        );
        assert_eq!(parse(waived).unwrap().reveal(), waived);
    }

    proptest! {
        #[test]
        fn any_user_and_password_survive(user in "[^\\x00]{1,15}", password in "[^\\x00]{1,15}") {
            let address = Address {
                host: "h".into(), port: 1, repository: "r".into(), user: Some(user), password: Some(Password::new(password)),
                require_auth: RequireAuth::Scram,
            };
            prop_assert_eq!(parse(&address.reveal()), Ok(address));
        }

        #[test]
        fn garbage_never_panics(text in "postgresql://.{0,60}") {
            let _ = parse(&text);
        }
    }
}
