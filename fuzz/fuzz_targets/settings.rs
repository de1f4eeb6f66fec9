//! Configuration of others: a version, and up to three files with a byte 0xFF between them.
#![no_main]

use std::collections::BTreeMap;

use neon_compute::conf::{Line, Settings, Verdict, access, judge, rewrite};
use neon_postgres::PgVersion;

const MAIN: &str = "postgresql.conf";
const FILES: [&str; 3] = [MAIN, "more.conf", "conf.d/last.conf"];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let versions = PgVersion::ALL;
    let version = versions[usize::from(first) % versions.len()];
    let texts: Vec<String> = data
        .splitn(FILES.len(), |byte| *byte == 0xFF)
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    files(version, &texts);
    for text in &texts {
        settings(version, text);
        rules(text);
    }
});

/// What is written holds nothing but comments and settings that are taken, and is written again as it is.
fn files(version: PgVersion, texts: &[String]) {
    let files: BTreeMap<&str, String> = FILES.into_iter().zip(texts.iter().cloned()).collect();
    let made = rewrite(version, &files, MAIN);
    for line in made.text.lines() {
        match Line::read(line) {
            Line::Comment(_) => {}
            Line::Setting { name, value, .. } => {
                assert_eq!(judge(version, &name, &value), Verdict::Taken, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    let again = rewrite(version, &BTreeMap::from([(MAIN, made.text.clone())]), MAIN);
    assert_eq!(again.text, made.text);
    assert!(again.switched_off.is_empty() && again.included.is_empty());
}

fn settings(version: PgVersion, text: &str) {
    let read = Settings::read(text);
    assert_eq!(Settings::read(&read.text()), read);
    let (taken, _) = read.taken(version);
    assert_eq!(Settings::read(&taken.text()), taken);
    let (again, off) = taken.taken(version);
    assert_eq!(again, taken);
    assert!(off.is_empty(), "{off:?}");
    let changes = taken.changes_since(&read);
    assert_eq!(read.with(&changes), taken);
}

fn rules(text: &str) {
    for kept in [access::hba, access::ident] {
        let (made, _) = kept(text);
        let (again, left) = kept(&made);
        assert_eq!(again, made);
        assert!(left.is_empty(), "{left:?}");
    }
}
