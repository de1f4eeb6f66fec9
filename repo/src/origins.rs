//! Origins: other repositories by name, in `config.toml`.

use neon_objects::{Expect, RefEdit};
use neon_remotes::uri::OriginUri;

use crate::api;
use crate::error::{RepoError, Result};
use crate::repository::Repository;

impl Repository {
    /// Lists the origins, without passwords.
    pub(crate) fn list_origins(&self) -> Result<Vec<api::Origin>> {
        let config = self.config()?;
        Ok(config
            .origins()?
            .into_iter()
            .map(|(name, origin)| api::Origin {
                name,
                uri: hide_password(&origin.uri),
            })
            .collect())
    }

    /// Names another repository.
    pub(crate) fn add_origin(&self, name: &str, uri: &str) -> Result<api::Done> {
        check_uri(uri)?;
        let mut config = self.config()?;
        config.add_origin(name, &crate::transfer::absolute(uri, self.caller.directory()))?;
        config.save()?;
        Ok(api::Done {
            notes: vec![format!("origin {name} is {}", hide_password(uri))],
        })
    }

    /// Forgets an origin, what was fetched of its branches, and that branches go there by default.
    pub(crate) fn remove_origin(&self, name: &str) -> Result<api::Done> {
        let mut config = self.config()?;
        config.remove_origin(name)?;
        config.save()?;
        let gone: Vec<RefEdit> = self
            .refs
            .list(&format!("refs/origins/{name}/"))?
            .into_keys()
            .map(|name| RefEdit {
                name,
                expect: Expect::Any,
                new: None,
            })
            .collect();
        self.move_refs(&gone, "origin: removed")?;
        Ok(api::Done {
            notes: vec![format!("removed origin {name}")],
        })
    }

    /// Renames an origin with what was fetched of it.
    pub(crate) fn rename_origin(&self, old: &str, new: &str) -> Result<api::Done> {
        let mut config = self.config()?;
        config.rename_origin(old, new)?;
        let mut edits = Vec::new();
        for (name, id) in self.refs.list(&format!("refs/origins/{old}/"))? {
            let neon_types::RefName::Origin { branch, .. } = &name else {
                continue;
            };
            let renamed = neon_types::RefName::origin(new, branch)
                .map_err(|error| RepoError::refused(error.to_string(), "choose another name"))?;
            // A name that may not be given any more does not come along: its branch would not be fetched again either.
            if renamed.check_new().is_ok() {
                edits.push(RefEdit {
                    name: renamed,
                    expect: Expect::Any,
                    new: Some(id),
                });
            }
            edits.push(RefEdit {
                name,
                expect: Expect::Any,
                new: None,
            });
        }
        config.save()?;
        self.move_refs(&edits, "origin: renamed")?;
        Ok(api::Done {
            notes: vec![format!("renamed origin {old} to {new}")],
        })
    }

    /// Points an origin elsewhere.
    pub(crate) fn set_origin_uri(&self, name: &str, uri: &str) -> Result<api::Done> {
        check_uri(uri)?;
        let mut config = self.config()?;
        config.set_origin_uri(name, &crate::transfer::absolute(uri, self.caller.directory()))?;
        config.save()?;
        Ok(api::Done {
            notes: vec![format!("origin {name} is {}", hide_password(uri))],
        })
    }
}

/// Refuses what no transport of this release reaches, before it is written down.
fn check_uri(uri: &str) -> Result<()> {
    uri.parse::<OriginUri>()
        .map(|_| ())
        .map_err(|error| RepoError::refused(error.to_string(), error.hint()))
}

/// Returns the URI as it may be shown.
pub(crate) fn hide_password(uri: &str) -> String {
    uri.parse::<OriginUri>()
        .map_or_else(|_| "(unreadable)".to_owned(), |uri| uri.to_string())
}
