//! A `postgresql.conf` that others wrote, written anew: comments and settings, in one file.

use std::collections::BTreeMap;

use neon_postgres::PgVersion;

use super::taken::{Verdict, Why, judge};
use super::{DEEPEST, Line, as_comment, quoted};
use crate::settings::SwitchedOff;

/// Longest text that is written, bytes: includes in includes multiply.
const MAX_TEXT: usize = 4 << 20;

/// What was made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The text: every line is a comment or a setting that is taken over, in our own spelling.
    pub text: String,
    /// What is in it as a comment only.
    pub switched_off: Vec<SwitchedOff>,
    /// The other files that it included, whose lines stand in it now.
    pub included: Vec<String>,
}

/// Writes the file `main` anew, with what it includes of `files`, which are texts by path.
pub fn rewrite(version: PgVersion, files: &BTreeMap<&str, String>, main: &str) -> Rewritten {
    let mut writer = Writer {
        version,
        files,
        open: Vec::new(),
        out: Rewritten::default(),
    };
    writer.file(main);
    writer.out
}

struct Writer<'a> {
    version: PgVersion,
    files: &'a BTreeMap<&'a str, String>,
    /// The files that are being read, each included by the one before.
    open: Vec<String>,
    out: Rewritten,
}

impl Writer<'_> {
    fn file(&mut self, path: &str) {
        let Some(text) = self.files.get(path) else { return };
        self.open.push(path.to_owned());
        for line in text.lines() {
            if self.out.text.len() > MAX_TEXT {
                break;
            }
            self.line(line);
        }
        self.open.pop();
    }

    fn line(&mut self, line: &str) {
        match Line::read(line) {
            Line::Comment(comment) => self.put(&as_comment(comment)),
            Line::Bad => self.put(&format!("#neon: not understood: {}", as_comment(line))),
            Line::Include { word, target } => self.include(&word, &target),
            Line::Setting { name, value, comment } => {
                let comment = as_comment(comment);
                let space = if comment.is_empty() { "" } else { "\t" };
                match judge(self.version, &name, &value) {
                    Verdict::Taken => self.put(&format!("{name} = {}{space}{comment}", quoted(&value))),
                    Verdict::Without { value: rest, why } => {
                        self.put(&format!(
                            "{name} = {}\t# neon: of {}",
                            quoted(&rest),
                            quoted(&value)
                        ));
                        self.off(&name, &value, &rest, why);
                    }
                    Verdict::Left(why) => {
                        self.put(&format!(
                            "#neon: {why}:\n#{name} = {}{space}{comment}",
                            quoted(&value)
                        ));
                        self.off(&name, &value, "", why);
                    }
                }
            }
        }
    }

    /// A file is included where it was carried along and does not include itself.
    fn include(&mut self, word: &str, target: &str) {
        let target = target.strip_prefix("./").unwrap_or(target).trim_end_matches('/');
        let paths: Vec<String> = match word {
            "include_dir" => {
                let inside = |path: &str| {
                    let name = path.strip_prefix(target)?.strip_prefix('/')?;
                    (!name.contains('/') && !name.starts_with('.') && name.ends_with(".conf")).then_some(())
                };
                let paths = self.files.keys().filter(|path| inside(path).is_some());
                paths.map(|path| (*path).to_owned()).collect()
            }
            _ => self
                .files
                .keys()
                .filter(|path| **path == target)
                .map(|path| (*path).to_owned())
                .collect(),
        };
        let loops = paths.iter().any(|path| self.open.contains(path));
        if paths.is_empty() || loops || self.open.len() >= DEEPEST {
            self.put(&format!("#neon: {}:\n#{word} {}", Why::Include, quoted(target)));
            // One that need not be there was not missed before either.
            if word != "include_if_exists" {
                self.off(word, target, "", Why::Include);
            }
            return;
        }
        for path in paths {
            self.put(&format!("#neon: of {}:", as_comment(&path)));
            self.file(&path);
            self.put(&format!("#neon: end of {}", as_comment(&path)));
            self.out.included.push(path);
        }
    }

    fn put(&mut self, line: &str) {
        self.out.text.push_str(line);
        self.out.text.push('\n');
    }

    fn off(&mut self, name: &str, value: &str, rest: &str, why: Why) {
        self.out
            .switched_off
            .push(SwitchedOff::new(name, value, rest, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&'static str, &str)]) -> Rewritten {
        let files = files
            .iter()
            .map(|(path, text)| (*path, (*text).to_owned()))
            .collect();
        rewrite(PgVersion::V17, &files, "postgresql.conf")
    }

    #[test]
    fn comments_and_settings_stay() {
        let text = "# hello \u{1b}[2J\n\nwork_mem = 5MB # why\nWork_Mem 6MB\nx y z\n";
        assert_eq!(
            written(&[("postgresql.conf", text)]).text,
            "# hello  [2J\n\nwork_mem = '5MB'\t# why\nwork_mem = '6MB'\n#neon: not understood: x y z\n"
        );
    }

    #[test]
    fn what_is_left_becomes_a_comment() {
        let made = written(&[(
            "postgresql.conf",
            "ssl = on\nshared_preload_libraries = 'pg_cron,auto_explain'\narchive_command = 'x\\n y'\n",
        )]);
        assert_eq!(
            made.text,
            "#neon: it names something of another machine:\n#ssl = 'on'\n\
             shared_preload_libraries = 'auto_explain'\t# neon: of 'pg_cron,auto_explain'\n\
             #neon: a copy does not act as its original:\n#archive_command = 'x\\n y'\n"
        );
        let names: Vec<&str> = made.switched_off.iter().map(|off| off.name.as_str()).collect();
        assert_eq!(names, ["ssl", "shared_preload_libraries", "archive_command"]);
    }

    #[test]
    fn includes_of_carried_files_become_their_lines() {
        let made = written(&[
            (
                "postgresql.conf",
                "a.b = 1\ninclude_dir 'conf.d/'\ninclude './own.conf'\ninclude_if_exists 'gone.conf'\n",
            ),
            ("conf.d/2.conf", "a.b = 3\n"),
            ("conf.d/1.conf", "a.b = 2\ninclude '/etc/passwd'\n"),
            ("conf.d/.x.conf", "a.b = 9\n"),
            ("own.conf", "a.b = 4\n"),
        ]);
        let settings: Vec<&str> = made.text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(settings, ["a.b = '1'", "a.b = '2'", "a.b = '3'", "a.b = '4'"]);
        assert_eq!(made.switched_off.len(), 1);
        assert_eq!(made.switched_off[0].configured, "/etc/passwd");
        assert!(!made.text.lines().any(|line| line.starts_with("include")));
        assert_eq!(made.included, ["conf.d/1.conf", "conf.d/2.conf", "own.conf"]);
    }

    #[test]
    fn includes_end() {
        let twice = "include 'b.conf'\n".repeat(1000);
        let made = written(&[
            ("postgresql.conf", "include 'postgresql.conf'\ninclude 'a.conf'\n"),
            ("a.conf", &twice),
            ("b.conf", &twice.replace('b', "c")),
            ("c.conf", &twice.replace('b', "d")),
            ("d.conf", "include 'a.conf'\nwork_mem = 1MB\n"),
        ]);
        assert!(
            made.text.len() < MAX_TEXT + (1 << 10),
            "{} bytes",
            made.text.len()
        );
    }
}
