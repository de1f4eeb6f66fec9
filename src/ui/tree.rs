//! Branches as a tree of who left whom.

use std::collections::{BTreeMap, BTreeSet};

use neon_repo::api::Branch;

/// Returns the branches parents first, children by name below them, each with the lines that are drawn before its name.
pub fn tree(branches: &[Branch]) -> Vec<(String, &Branch)> {
    let names: BTreeSet<&str> = branches.iter().map(|branch| branch.name.as_str()).collect();
    let mut children: BTreeMap<Option<&str>, Vec<&Branch>> = BTreeMap::new();
    for branch in branches {
        let parent = branch
            .parent
            .as_deref()
            .filter(|parent| names.contains(parent) && *parent != branch.name);
        children.entry(parent).or_default().push(branch);
    }
    for siblings in children.values_mut() {
        siblings.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let mut walk = Walk {
        children,
        seen: BTreeSet::new(),
        rows: Vec::new(),
    };
    for root in walk.children.get(&None).cloned().unwrap_or_default() {
        walk.visit(root, String::new(), String::new());
    }
    // Two branches that name each other as parents have no root above them: shown flat rather than not.
    for branch in branches {
        walk.visit(branch, String::new(), String::new());
    }
    walk.rows
}

struct Walk<'a> {
    children: BTreeMap<Option<&'a str>, Vec<&'a Branch>>,
    seen: BTreeSet<&'a str>,
    rows: Vec<(String, &'a Branch)>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, branch: &'a Branch, own: String, below: String) {
        if !self.seen.insert(&branch.name) {
            return;
        }
        self.rows.push((own, branch));
        let children = self
            .children
            .get(&Some(branch.name.as_str()))
            .cloned()
            .unwrap_or_default();
        for (index, child) in children.iter().enumerate() {
            let is_last = index + 1 == children.len();
            let (own, more) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            self.visit(child, format!("{below}{own}"), format!("{below}{more}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::branch::tests::branch;

    fn drawn(branches: &[(&str, Option<&str>)]) -> Vec<String> {
        let branches: Vec<Branch> = branches
            .iter()
            .map(|(name, parent)| Branch {
                parent: parent.map(str::to_owned),
                ..branch(name)
            })
            .collect();
        tree(&branches)
            .iter()
            .map(|(lines, branch)| format!("{lines}{}", branch.name))
            .collect()
    }

    #[test]
    fn children_are_below_their_parents() {
        let rows = drawn(&[
            ("main", None),
            ("b", Some("main")),
            ("a", Some("main")),
            ("deep", Some("a")),
            ("orphan", Some("gone")),
        ]);
        assert_eq!(rows, ["main", "├─ a", "│  └─ deep", "└─ b", "orphan"]);
    }

    #[test]
    fn a_circle_is_shown_flat() {
        assert_eq!(drawn(&[("a", Some("b")), ("b", Some("a"))]), ["a", "└─ b"]);
        assert_eq!(drawn(&[("a", Some("a"))]), ["a"]);
    }
}
