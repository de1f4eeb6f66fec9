//! `pg_hba.conf` and `pg_ident.conf` that others wrote: kept line by line, without what reads other files or asks other machines.

use std::net::IpAddr;

use super::as_comment;

/// Kinds of connections.
const TYPES: [&str; 6] = [
    "local",
    "host",
    "hostssl",
    "hostnossl",
    "hostgssenc",
    "hostnogssenc",
];
/// Methods that need nothing but the cluster itself.
const METHODS: [&str; 9] = [
    "trust",
    "reject",
    "md5",
    "password",
    "scram-sha-256",
    "gss",
    "ident",
    "peer",
    "cert",
];
/// Options of methods that name no file and no server.
const OPTIONS: [&str; 6] = [
    "map",
    "clientcert",
    "clientname",
    "include_realm",
    "krb_realm",
    "upn_username",
];

/// Returns the text of a `pg_hba.conf` that may be used here, and the lines that are comments in it now.
pub fn hba(text: &str) -> (String, Vec<String>) {
    kept(text, is_harmless_rule)
}

/// The same of a `pg_ident.conf`.
pub fn ident(text: &str) -> (String, Vec<String>) {
    kept(text, |fields| {
        fields.len() == 3 && fields.iter().all(|field| field.len() == 1)
    })
}

fn kept(text: &str, may_stay: impl Fn(&[Vec<&str>]) -> bool) -> (String, Vec<String>) {
    let mut kept = String::with_capacity(text.len());
    let mut left = Vec::new();
    for line in logical_lines(text) {
        // A backslash at the end would join the next line to it.
        let (line, ends) = (line.trim_end_matches('\\'), !line.ends_with('\\'));
        let stays = ends
            && fields(line).is_some_and(|fields| {
                let names_a_file = fields.iter().flatten().any(|token| token.starts_with('@'));
                fields.is_empty() || (!names_a_file && may_stay(&fields))
            });
        if !stays {
            kept.push_str("#neon: left out: ");
            left.push(line.trim().to_owned());
        }
        kept.push_str(line);
        kept.push('\n');
    }
    (kept, left)
}

/// Returns the lines, each with those that a backslash at its end joins to it.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut joined = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(beginning) => joined.push_str(&as_comment(beginning)),
            None => lines.push(std::mem::take(&mut joined) + &as_comment(line)),
        }
    }
    if !joined.is_empty() {
        lines.push(joined);
    }
    lines
}

/// Splits a line into fields, which are lists of tokens as they are written. None where a quote does not end.
fn fields(line: &str) -> Option<Vec<Vec<&str>>> {
    let is_blank = |c| matches!(c, ' ' | '\t' | '\r');
    let mut fields: Vec<Vec<&str>> = Vec::new();
    let mut rest = line;
    let mut goes_on = false;
    loop {
        rest = rest.trim_start_matches(|c| is_blank(c) || c == ',');
        if rest.is_empty() || rest.starts_with('#') {
            return Some(fields);
        }
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            !quoted && (is_blank(c) || c == ',' || c == '#')
        });
        if end.is_none() && quoted {
            return None;
        }
        let (token, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        match fields.last_mut() {
            Some(field) if goes_on => field.push(token),
            _ => fields.push(vec![token]),
        }
        goes_on = after.starts_with(',');
        rest = after;
    }
}

fn is_harmless_rule(fields: &[Vec<&str>]) -> bool {
    let one = |at: usize| match fields.get(at).map(Vec::as_slice) {
        Some([token]) => token.trim_matches('"'),
        _ => "",
    };
    let at = match one(0) {
        "local" => 3,
        // A mask follows the address.
        _ if one(4).parse::<IpAddr>().is_ok() => 5,
        _ => 4,
    };
    let options = fields.get(at + 1..).unwrap_or_default().iter().flatten();
    let is_known = |option: &&str| {
        let name = option.trim_start_matches('"').split('=').next();
        name.is_some_and(|name| OPTIONS.contains(&name))
    };
    TYPES.contains(&one(0)) && METHODS.contains(&one(at)) && options.into_iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_cluster_itself_stay() {
        let text = "# TYPE\tDATABASE\nlocal all all peer map=x # why\nhost all all 127.0.0.1/32 scram-sha-256\n\
                    host \"a b\", sameuser +group,\"@x\" 10.0.0.0 255.0.0.0 md5\nhostssl all all ::1/128 cert clientcert=verify-full\n\n";
        assert_eq!(hba(text), (text.to_owned(), Vec::new()));
        let maps = "# MAP\nx /^(.*)@corp$ \\1\n";
        assert_eq!(ident(maps), (maps.to_owned(), Vec::new()));
    }

    #[test]
    fn what_reads_files_or_asks_others_becomes_a_comment() {
        for line in [
            "include /etc/passwd",
            "include_dir /etc",
            "include_if_exists \"/etc/passwd\"",
            "local @/etc/passwd all trust",
            "local all x,@/etc/passwd trust",
            "local all all pam pamservice=x",
            "local all all bsd",
            "host all all all ldap ldapserver=evil",
            "host all all all radius radiusservers=evil",
            "host all all all oauth validator=/tmp/x",
            "host all all all scram-sha-256 \"ldapserver=evil\"",
            "local \"all all trust",
            "host all all, all trust",
            "local all",
            "x",
        ] {
            let (kept, left) = hba(&format!("{line}\nlocal all all trust\n"));
            assert_eq!(kept, format!("#neon: left out: {line}\nlocal all all trust\n"));
            assert_eq!(left, [line]);
        }
        // The second line belongs to the first, and is no rule by itself.
        let (kept, left) =
            hba("include \\\nlocal all all trust\n# x \\\n@/etc/passwd\nlocal all \\\nall trust\\\n");
        assert_eq!(
            kept,
            "#neon: left out: include local all all trust\n# x @/etc/passwd\nlocal all all trust\n"
        );
        assert_eq!(left.len(), 1);
        let (kept, _) = hba("# x \\\\\n\nlocal all all trust\n");
        assert_eq!(kept, "#neon: left out: # x \nlocal all all trust\n");
        let (kept, left) = ident("x \u{1b}a @/etc/passwd\ninclude /etc/passwd\n");
        assert_eq!(left.len(), 2);
        assert!(kept.lines().all(|line| line.starts_with('#')) && !kept.contains('\u{1b}'));
    }
}
