//! One line of a configuration file, read as Postgres reads it (`guc-file.l`).

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Nothing but a comment, from `#` on; empty when there is none.
    Comment(&'a str),
    /// A setting.
    Setting {
        /// In lower case; one of an extension has one dot in it.
        name: String,
        /// Without quotes; holds no NUL.
        value: String,
        /// What follows it, from `#` on; empty when there is nothing.
        comment: &'a str,
    },
    /// An include directive.
    Include {
        /// `include`, `include_if_exists` or `include_dir`.
        word: String,
        /// What it names.
        target: String,
    },
    /// Postgres refuses the file because of it.
    Bad,
}

impl<'a> Line<'a> {
    /// Reads a line without its end.
    pub fn read(line: &'a str) -> Line<'a> {
        let line = line.trim_matches(is_space);
        if line.is_empty() || line.starts_with('#') {
            return Line::Comment(line);
        }
        setting(line).unwrap_or(Line::Bad)
    }
}

fn setting(line: &str) -> Option<Line<'_>> {
    let end = line
        .find(|c: char| !(is_name(c) || c == '.'))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end)?;
    if !is_setting_name(name) {
        return None;
    }
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let (value, rest) = value(rest.trim_start_matches(is_space))?;
    let comment = rest.trim_start_matches(is_space);
    if !comment.is_empty() && !comment.starts_with('#') {
        return None;
    }
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        "include" | "include_if_exists" | "include_dir" => Line::Include {
            word: name,
            target: value,
        },
        _ => Line::Setting { name, value, comment },
    })
}

/// Returns true for a name that a file may hold: letters, digits and underscores, with one dot when it is an extension's.
pub fn is_setting_name(name: &str) -> bool {
    let is_word = |word: &str| word.starts_with(is_letter) && word.chars().all(is_name);
    match name.split_once('.') {
        Some((extension, name)) => is_word(extension) && is_word(name),
        None => is_word(name),
    }
}

/// Returns the value at the beginning of `text`, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return string(quoted);
    }
    let end = text
        .find(|c: char| !(is_name(c) || matches!(c, '-' | '+' | '.' | ':' | '/')))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    (is_word(word) || is_number(word)).then(|| (word.to_owned(), rest))
}

/// Reads a string up to its closing quote.
fn string(quoted: &str) -> Option<(String, &str)> {
    let mut bytes = Vec::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let plain = match c {
            '\'' if characters.next_if(|(_, next)| *next == '\'').is_some() => '\'',
            '\'' => {
                let value = String::from_utf8_lossy(&bytes).into_owned();
                return (!value.contains('\0')).then(|| (value, quoted.get(at + 1..).unwrap_or_default()));
            }
            '\\' => match characters.next()?.1 {
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                digit @ '0'..='7' => {
                    let mut number = digit.to_digit(8)?;
                    for _ in 0..2 {
                        if let Some((_, digit)) = characters.next_if(|(_, next)| next.is_digit(8)) {
                            number = number * 8 + digit.to_digit(8)?;
                        }
                    }
                    bytes.push((number & 0xff) as u8);
                    continue;
                }
                other => other,
            },
            other => other,
        };
        bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    None
}

fn is_word(word: &str) -> bool {
    word.starts_with(is_letter) && !word.contains('+')
}

/// A whole number with or without a unit, or a number with a point.
fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let digits = unsigned.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = unsigned.strip_prefix("0x").is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_hexdigit()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    whole || hexadecimal || (unsigned.contains('.') && unsigned.parse::<f64>().is_ok())
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(String, String)> {
        match Line::read(line) {
            Line::Setting { name, value, .. } => Some((name, value)),
            _ => None,
        }
    }

    #[test]
    fn settings_are_read_as_postgres_reads_them() {
        for (line, name, value) in [
            (
                "max_connections = 100\t\t# (change requires restart)",
                "max_connections",
                "100",
            ),
            (" Archive_Mode on\r", "archive_mode", "on"),
            (
                "archive_command='cp %p ''x''\\\\y'",
                "archive_command",
                "cp %p 'x'\\y",
            ),
            ("shared_buffers = 128MB#x", "shared_buffers", "128MB"),
            ("my.setting = ''", "my.setting", ""),
            ("log_line_prefix = '\\t\\101\\x'", "log_line_prefix", "\tAx"),
            ("log_file_mode = 0600", "log_file_mode", "0600"),
            ("seed = -1.5e-3", "seed", "-1.5e-3"),
            ("wal_segment = 0x1F", "wal_segment", "0x1F"),
            ("dynamic = $x", "", ""),
            ("datestyle iso-8601:x/y", "datestyle", "iso-8601:x/y"),
            ("größe = 'ä'", "größe", "ä"),
        ] {
            let expected = (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()));
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn what_postgres_refuses_is_no_setting() {
        for line in [
            "a = 'x' b = 'y'",
            "a = 'x' include '/etc/passwd'",
            "a = 'no end",
            "a = 'end\\'",
            "a",
            "a =",
            "=",
            "= 1",
            "a = = 1",
            "1a = 1",
            "a..b = 1",
            "a.b.c = 1",
            ".a = 1",
            "a = 10.5ms",
            "a = \"x\"",
            "a = 'x\\0y'",
            "a = x, y",
            "\u{c}a = 1",
        ] {
            assert_eq!(Line::read(line), Line::Bad, "{line}");
        }
    }

    #[test]
    fn includes_and_comments_are_told_apart() {
        let include = |word: &str, target: &str| Line::Include {
            word: word.to_owned(),
            target: target.to_owned(),
        };
        assert_eq!(
            Line::read("include '/etc/x.conf' # y"),
            include("include", "/etc/x.conf")
        );
        assert_eq!(
            Line::read("INCLUDE_DIR = conf.d"),
            include("include_dir", "conf.d")
        );
        assert_eq!(Line::read("  # include 'x'"), Line::Comment("# include 'x'"));
        assert_eq!(Line::read(" \t"), Line::Comment(""));
        assert!(matches!(Line::read("include.x = 1"), Line::Setting { name, .. } if name == "include.x"));
    }
}
