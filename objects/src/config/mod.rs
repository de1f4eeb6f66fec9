//! `config.toml` of a repository: format, id, settings, origins, and which origin a branch goes to.
//!
//! The file is edited, not rewritten: comments and order stay. It may hold passwords of origins, so it is 0600. Change it only while
//! holding the repository's lock: load, change, save.

mod retention;
mod settings;
pub mod span;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use neon_types::{RefName, RepoId};
use toml_edit::{DocumentMut, Item, Table, Value};

use crate::owned::{self, Access, Owner};
use crate::{ObjectsError, Result, durable};

pub use retention::{Keep, Retention};
pub use settings::{SETTINGS, SettingKind, SettingSpec, postgres_setting};

/// The format of the repository that this program makes and reads.
pub const FORMAT: i64 = 1;
const MAX_CONFIG: u64 = 1 << 20;

/// A named other repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it is; may hold a password, so never print it as it is.
    pub uri: String,
}

/// Where a branch goes when push, pull and fetch name no other place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name of the origin.
    pub origin: String,
    /// Name of the branch there.
    pub branch: String,
}

/// The configuration of one repository, as loaded.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    document: DocumentMut,
    repository: RepoId,
}

impl Config {
    /// Writes the configuration of a new repository into its `.neon` directory.
    pub fn create(neon_dir: &Path, repository: RepoId) -> Result<Config> {
        let text = format!(
            "# Configuration of this neon repository. `neon config` and `neon origin` edit it and keep comments.\n\
             format = {FORMAT}\n\n[repository]\nid = \"{repository}\"\n"
        );
        let config = Config::parse(neon_dir.join("config.toml"), &text)?;
        config.save()?;
        Ok(config)
    }

    /// Reads the configuration in a `.neon` directory; [`ObjectsError::Format`] for a repository of a newer program.
    pub fn load(neon_dir: &Path) -> Result<Config> {
        let path = neon_dir.join("config.toml");
        let mut text = String::new();
        owned::open(&path, Owner::Us, Access::Readable)?
            .take(MAX_CONFIG + 1)
            .read_to_string(&mut text)
            .map_err(ObjectsError::io("read", &path))?;
        if text.len() as u64 > MAX_CONFIG {
            return Err(bad(&path, format!("longer than {MAX_CONFIG} bytes")));
        }
        Config::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Config> {
        let document: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| bad(&path, error.to_string().trim_end().to_owned()))?;
        let format = document
            .get("format")
            .and_then(Item::as_integer)
            .ok_or_else(|| bad(&path, "no number under 'format'".to_owned()))?;
        if format != FORMAT {
            return Err(ObjectsError::Format {
                found: format,
                known: FORMAT,
            });
        }
        let repository = document
            .get("repository")
            .and_then(|table| table.get("id"))
            .and_then(Item::as_str)
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| bad(&path, "no repository id under 'repository.id'".to_owned()))?;
        let config = Config {
            path,
            document,
            repository,
        };
        // What is read later must be readable now.
        config.origins()?;
        config.upstreams()?;
        Ok(config)
    }

    /// Writes the file durably, mode 0600.
    pub fn save(&self) -> Result<()> {
        durable::replace(&self.path, self.document.to_string().as_bytes(), 0o600)
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the repository's format, which is one that this program reads.
    pub fn format(&self) -> i64 {
        FORMAT
    }

    /// Returns the repository's id.
    pub fn repository(&self) -> RepoId {
        self.repository
    }

    /// Gives the repository another id: it was copied.
    pub fn set_repository(&mut self, id: RepoId) {
        self.repository = id;
        self.table("repository").insert("id", text(&id.to_string()));
    }

    /// Returns all origins by name.
    pub fn origins(&self) -> Result<BTreeMap<String, Origin>> {
        let mut origins = BTreeMap::new();
        for (name, table) in self.children("origins")? {
            RefName::origin(name, "x")?;
            let uri = self.string_in(table, &format!("origins.{name}"), "uri")?;
            origins.insert(name.to_owned(), Origin { uri });
        }
        Ok(origins)
    }

    /// Returns one origin; [`ObjectsError::NoOrigin`] when there is none of that name.
    pub fn origin(&self, name: &str) -> Result<Origin> {
        self.origins()?
            .remove(name)
            .ok_or_else(|| ObjectsError::NoOrigin(name.to_owned()))
    }

    /// Names another repository.
    pub fn add_origin(&mut self, name: &str, uri: &str) -> Result<()> {
        RefName::origin(name, "x")?.check_new()?;
        if self.origins()?.contains_key(name) {
            return Err(ObjectsError::OriginExists(name.to_owned()));
        }
        self.sub_table("origins", name).insert("uri", text(uri));
        Ok(())
    }

    /// Points an origin elsewhere.
    pub fn set_origin_uri(&mut self, name: &str, uri: &str) -> Result<()> {
        self.origin(name)?;
        self.sub_table("origins", name).insert("uri", text(uri));
        Ok(())
    }

    /// Forgets an origin, and that branches went there.
    pub fn remove_origin(&mut self, name: &str) -> Result<()> {
        self.origin(name)?;
        self.table("origins").remove(name);
        for (branch, upstream) in self.upstreams()? {
            if upstream.origin == name {
                self.set_upstream(&branch, None)?;
            }
        }
        self.drop_empty("origins");
        Ok(())
    }

    /// Renames an origin, and the branches that go there follow.
    pub fn rename_origin(&mut self, old: &str, new: &str) -> Result<()> {
        RefName::origin(new, "x")?.check_new()?;
        self.origin(old)?;
        if self.origins()?.contains_key(new) {
            return Err(ObjectsError::OriginExists(new.to_owned()));
        }
        if let Some(item) = self.table("origins").remove(old) {
            self.table("origins").insert(new, item);
        }
        for (branch, upstream) in self.upstreams()? {
            if upstream.origin == old {
                self.sub_table("branches", &branch).insert("origin", text(new));
            }
        }
        Ok(())
    }

    /// Returns where each branch goes, by branch.
    pub fn upstreams(&self) -> Result<BTreeMap<String, Upstream>> {
        let mut upstreams = BTreeMap::new();
        for (name, table) in self.children("branches")? {
            let place = format!("branches.{name}");
            RefName::branch(name)?;
            if table.get("origin").is_none() && table.get("branch").is_none() {
                continue;
            }
            let origin = self.string_in(table, &place, "origin")?;
            let branch = self.string_in(table, &place, "branch")?;
            RefName::origin(&origin, &branch)?;
            upstreams.insert(name.to_owned(), Upstream { origin, branch });
        }
        Ok(upstreams)
    }

    /// Returns where the branch goes by default.
    pub fn upstream(&self, branch: &str) -> Result<Option<Upstream>> {
        Ok(self.upstreams()?.remove(branch))
    }

    /// Makes `upstream` the default of the branch; absent: it has none any more.
    pub fn set_upstream(&mut self, branch: &str, upstream: Option<&Upstream>) -> Result<()> {
        RefName::branch(branch)?;
        match upstream {
            Some(upstream) => {
                RefName::origin(&upstream.origin, &upstream.branch)?;
                let table = self.sub_table("branches", branch);
                table.insert("origin", text(&upstream.origin));
                table.insert("branch", text(&upstream.branch));
            }
            None if self.has_branch(branch) => {
                let table = self.sub_table("branches", branch);
                table.remove("origin");
                table.remove("branch");
                self.drop_empty_branch(branch);
            }
            None => {}
        }
        Ok(())
    }

    /// Carries what is said of a branch over to its new name.
    pub fn rename_branch(&mut self, old: &str, new: &str) -> Result<()> {
        RefName::branch(new)?;
        if self.has_branch(old)
            && let Some(item) = self.table("branches").remove(old)
        {
            self.table("branches").insert(new, item);
        }
        Ok(())
    }

    fn has_branch(&self, branch: &str) -> bool {
        let branches = self.document.get("branches");
        branches.is_some_and(|branches| branches.get(branch).is_some())
    }

    /// Takes the table of a branch of which nothing is said away.
    fn drop_empty_branch(&mut self, branch: &str) {
        let empty = self
            .document
            .get("branches")
            .and_then(|branches| branches.get(branch))
            .and_then(Item::as_table_like)
            .is_some_and(|table| table.is_empty());
        if empty {
            self.table("branches").remove(branch);
        }
        self.drop_empty("branches");
    }

    fn children(&self, name: &str) -> Result<Vec<(&str, &Item)>> {
        match self.document.get(name) {
            None => Ok(Vec::new()),
            Some(item) => item
                .as_table_like()
                .map(|table| table.iter().collect())
                .ok_or_else(|| bad(&self.path, format!("'{name}' is not a table"))),
        }
    }

    fn string_in(&self, table: &Item, place: &str, key: &str) -> Result<String> {
        table
            .as_table_like()
            .and_then(|table| table.get(key))
            .and_then(Item::as_str)
            .map(str::to_owned)
            .ok_or_else(|| bad(&self.path, format!("no text under '{place}.{key}'")))
    }

    /// Returns the top-level table of that name, made (and not printed while empty) when absent.
    fn table(&mut self, name: &str) -> &mut dyn toml_edit::TableLike {
        table_like(self.document.as_item_mut(), name, true)
    }

    fn sub_table(&mut self, name: &str, child: &str) -> &mut dyn toml_edit::TableLike {
        let item = table_item(self.document.as_item_mut(), name, true);
        table_like(item, child, false)
    }

    fn drop_empty(&mut self, name: &str) {
        let empty = self
            .document
            .get(name)
            .and_then(Item::as_table_like)
            .is_some_and(|table| table.is_empty());
        if empty {
            self.document.remove(name);
        }
    }
}

fn table_item<'a>(parent: &'a mut Item, name: &str, implicit: bool) -> &'a mut Item {
    if let Item::Table(table) = parent {
        let item = table.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(implicit);
            Item::Table(table)
        });
        if item.is_table_like() {
            return item;
        }
        *item = Item::Table(Table::new());
        return item;
    }
    let inline = || Item::Value(Value::InlineTable(toml_edit::InlineTable::new()));
    if !parent.is_table_like() {
        *parent = Item::Table(Table::new());
    }
    // Indexing a table by name makes the entry.
    let item = &mut parent[name];
    if !item.is_table_like() {
        *item = inline();
    }
    item
}

fn table_like<'a>(parent: &'a mut Item, name: &str, implicit: bool) -> &'a mut dyn toml_edit::TableLike {
    #[expect(clippy::unwrap_used, reason = "table_item returns a table of either kind")]
    table_item(parent, name, implicit).as_table_like_mut().unwrap()
}

fn text(value: &str) -> Item {
    Item::Value(Value::from(value))
}

fn bad(path: &Path, problem: String) -> ObjectsError {
    ObjectsError::BadConfig {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests;
