//! What a Postgres here is made of: the part of a commit's environment that the machine decides (law 14).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::installation::Installation;

/// Facts about an installation that decide whether a cluster's files mean the same elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEnvironment {
    /// `server_version_num`, such as 150018.
    pub pg_version_num: u32,
    /// Processor architecture of the `postgres` program, as Rust names it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Whether C's `char` is signed there.
    pub char_signed: bool,
    /// C library with version, such as `glibc 2.36`; empty when unknown.
    pub libc: String,
    /// Version of the ICU library that `postgres` is linked with, such as `72`; empty without ICU.
    pub icu: String,
}

impl ServerEnvironment {
    /// Returns the facts about `installation`; what cannot be found out is left empty.
    pub fn detect(installation: &Installation) -> ServerEnvironment {
        let postgres = installation.program("postgres");
        let architecture = elf_machine(&postgres)
            .unwrap_or(std::env::consts::ARCH)
            .to_owned();
        ServerEnvironment {
            pg_version_num: installation.version_num(),
            char_signed: char_is_signed(&architecture),
            architecture,
            libc: libc_version(&postgres),
            icu: linked_icu(&postgres).unwrap_or_default(),
        }
    }
}

/// Returns whether `char` is signed by the ABI of `architecture` (Linux and macOS; Apple's arm64 is signed).
fn char_is_signed(architecture: &str) -> bool {
    cfg!(target_os = "macos")
        || !matches!(
            architecture,
            "aarch64" | "arm" | "powerpc64" | "powerpc64le" | "s390x" | "riscv64"
        )
}

/// Returns the machine of an ELF file.
fn elf_machine(program: &Path) -> Option<&'static str> {
    let mut head = [0; 20];
    File::open(program).ok()?.read_exact(&mut head).ok()?;
    let magic: &[u8] = head.get(..4)?;
    if magic != b"\x7fELF" {
        return None;
    }
    let pair: [u8; 2] = head.get(18..20)?.try_into().ok()?;
    let little = *head.get(5)? == 1;
    let machine = if little {
        u16::from_le_bytes(pair)
    } else {
        u16::from_be_bytes(pair)
    };
    Some(match machine {
        0x3E => "x86_64",
        0xB7 => "aarch64",
        0x28 => "arm",
        0x03 => "x86",
        0x16 => "s390x",
        0xF3 => "riscv64",
        0x15 if little => "powerpc64le",
        0x15 => "powerpc64",
        _ => return None,
    })
}

/// Returns the C library that the program's loader belongs to, with its version.
fn libc_version(program: &Path) -> String {
    let said = |name: &str, arguments: &[&str]| -> Option<String> {
        let output = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Some(text)
    };
    if find_in_file(program, b"/ld-musl-").is_some() {
        // musl's ldd prints "musl libc (x86_64)\nVersion 1.2.4\n..." on stderr.
        let version = said("ldd", &[]).and_then(|text| {
            text.lines()
                .find_map(|line| Some(line.strip_prefix("Version ")?.trim().to_owned()))
        });
        return version.map_or_else(|| "musl".to_owned(), |version| format!("musl {version}"));
    }
    if let Some(text) = said("getconf", &["GNU_LIBC_VERSION"])
        && text.starts_with("glibc ")
    {
        return text.trim().to_owned();
    }
    let from_ldd = said("ldd", &["--version"]).and_then(|text| {
        let line = text.lines().next()?;
        line.contains("ldd (")
            .then(|| line.rsplit(' ').next().map(|version| format!("glibc {version}")))?
    });
    from_ldd.unwrap_or_default()
}

/// Returns the number in `libicui18n.so.72`, the name under which the loader looks for ICU.
fn linked_icu(program: &Path) -> Option<String> {
    let tail = find_in_file(program, b"libicui18n.so.").or_else(|| find_in_file(program, b"libicui18n."))?;
    let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

/// Returns up to 32 characters behind the first occurrence of `needle` in the file.
fn find_in_file(program: &Path, needle: &[u8]) -> Option<String> {
    const LIMIT: u64 = 256 << 20;
    let mut bytes = Vec::new();
    File::open(program)
        .ok()?
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .ok()?;
    let first = needle.first()?;
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        at += rest.iter().position(|byte| byte == first)?;
        let here = bytes.get(at..)?;
        if here.starts_with(needle) {
            let tail = here.get(needle.len()..)?;
            let tail = tail.get(..32).unwrap_or(tail);
            return Some(String::from_utf8_lossy(tail).into_owned());
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_found_and_missed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("program");
        std::fs::write(&file, b"\0\0liblibicui18n.so.72\0more").expect("write");
        assert_eq!(linked_icu(&file), Some("72".to_owned()));
        assert_eq!(find_in_file(&file, b"/ld-musl-"), None);
        assert_eq!(find_in_file(&directory.path().join("absent"), b"x"), None);
    }

    #[test]
    fn arm_chars_are_unsigned_on_linux() {
        assert!(char_is_signed("x86_64"));
        if cfg!(target_os = "linux") {
            assert!(!char_is_signed("aarch64"));
        }
    }
}
