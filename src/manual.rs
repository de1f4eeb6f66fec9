//! The man pages, made from what clap knows.

use std::io;

use clap::{Command, CommandFactory};

use crate::cli::Cli;

/// Returns every page as (file name, roff), in the order of their names.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, "neon", &mut pages)?;
    pages.sort();
    Ok(pages)
}

fn add(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut roff = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .manual("neon manual")
        .source(concat!("neon ", env!("CARGO_PKG_VERSION")))
        .date("")
        .render(&mut roff)?;
    pages.push((format!("{name}.1"), roff));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        add(inner, &format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_pages_in_man_are_what_clap_knows() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
        let pages = pages().expect("rendered");
        for (name, roff) in &pages {
            let checked_in = fs::read(directory.join(name)).unwrap_or_default();
            assert!(
                checked_in == *roff,
                "man/{name} is out of date: run 'cargo run -- man man'"
            );
        }
        let expected: BTreeSet<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for entry in fs::read_dir(directory).expect("man/ is there") {
            let name = entry.expect("listed").file_name();
            let name = name.to_str().expect("plain names");
            assert!(
                !name.ends_with(".1") || expected.contains(name),
                "man/{name} belongs to no command"
            );
        }
    }
}
