//! Which of a peer's branches can be kept here.

use std::collections::BTreeSet;

use neon_types::{is_valid_name, on_one_line};

use crate::wire::Listed;

/// A branch of a peer that is not fetched, because its name cannot be kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The name, as it may be printed.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// Parts branches whose names can be kept beside each other from the rest; of two that cannot the shorter stays.
pub(crate) fn part(mut listed: Vec<Listed>) -> (Vec<Listed>, Vec<Skipped>) {
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let mut kept: Vec<Listed> = Vec::with_capacity(listed.len());
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut skipped = Vec::new();
    for one in listed {
        match why_not(&one.name, &names) {
            None => {
                names.insert(one.name.clone());
                kept.push(one);
            }
            Some(why) => skipped.push(Skipped {
                name: on_one_line(&one.name.chars().take(200).collect::<String>()),
                why,
            }),
        }
    }
    (kept, skipped)
}

fn why_not(name: &str, kept: &BTreeSet<String>) -> Option<String> {
    if !is_valid_name(name) {
        return Some("its name is not one that a branch may have here".to_owned());
    }
    if kept.contains(name) {
        return Some("it is listed twice".to_owned());
    }
    // Sorted, so what could be a directory of it came before.
    let mut above = name.match_indices('/').filter_map(|(end, _)| name.get(..end));
    let above = above.find(|above| kept.contains(*above))?;
    Some(format!("'{above}' would be a directory then"))
}

#[cfg(test)]
mod tests {
    use neon_types::{CommitId, ObjectId};

    use super::*;

    #[test]
    fn names_that_cannot_be_kept_are_told_and_the_rest_stays() {
        let listed = [
            "main",
            "a/b",
            "a",
            "a",
            "refs/heads/x",
            "é",
            "x.lock",
            "-d",
            "a-b/c",
            "",
            "HEAD",
            "ok/y",
            "a\n\u{202e}",
        ];
        let long = "n".repeat(101);
        let listed = listed.iter().copied().chain([long.as_str()]);
        let listed = listed.map(|name| Listed {
            name: name.to_owned(),
            head: CommitId(ObjectId::from_bytes([1; 32])),
            running: false,
        });
        let (kept, skipped) = part(listed.collect());
        let kept: Vec<&str> = kept.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(kept, ["a", "a-b/c", "main", "ok/y"]);
        assert_eq!(skipped.len(), 10);
        assert!(
            skipped
                .iter()
                .any(|one| one.name == "a/b" && one.why.contains("'a'"))
        );
        assert!(skipped.iter().any(|one| one.name == "a\\n\\u{202e}"));
    }
}
