//! HEAD: the branch that commands mean when they name none.

use std::fs;

use neon_types::{RefName, is_safe_name};

use crate::refs::Refs;
use crate::{ObjectsError, Result, durable};

const PREFIX: &str = "ref: refs/heads/";

impl Refs {
    /// Returns the name of HEAD's branch, which need not exist.
    pub fn head(&self) -> Result<String> {
        let path = self.directory().join("HEAD");
        let text = fs::read_to_string(&path).map_err(ObjectsError::io("read", &path))?;
        text.strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix('\n'))
            .filter(|name| is_safe_name(name))
            .map(str::to_owned)
            .ok_or(ObjectsError::DamagedHead(path))
    }

    /// Makes `branch` HEAD; that it exists is the caller's to check.
    pub fn set_head(&self, branch: &str) -> Result<()> {
        RefName::branch(branch)?;
        durable::replace(
            &self.directory().join("HEAD"),
            format!("{PREFIX}{branch}\n").as_bytes(),
            0o600,
        )
    }
}
