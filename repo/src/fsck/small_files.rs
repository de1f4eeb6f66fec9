//! The files that change in place, beside refs: what says what a data directory is, and what garbage is told by.

use neon_compute::Stamp;
use neon_types::with_causes;

use crate::api::{Checked, Finding};
use crate::endpoint::{self, stamp_of};
use crate::endpoint_file::{self, Found};
use crate::repository::Repository;
use crate::retention::received;
use crate::{clock, gc};

impl Repository {
    /// Reads them all, and says of each that is damaged what follows from that.
    pub(super) fn check_small_files(&self, checked: &mut Checked) {
        let mut found = |message: String| {
            checked.findings.push(Finding {
                object: None,
                message,
            });
        };
        for name in endpoint::names(&self.neon_dir).unwrap_or_default() {
            if let Found::Lost(why) = endpoint_file::look(&self.neon_dir, &name) {
                let made_up = match self.endpoint_file(&name) {
                    Ok(_) => "its data directory says what it is; the next start writes it again",
                    Err(_) => "and its data directory does not say what it is",
                };
                found(format!("endpoint {name}: {why}; {made_up}"));
            }
            if let Err(error) = Stamp::read(&stamp_of(&self.neon_dir, &name)) {
                found(format!(
                    "endpoint {name}: {}; its data directory is made anew at the next start",
                    with_causes(&error)
                ));
            }
        }
        for id in self.pages.list() {
            if received::is_damaged(&self.timeline_directory(id)) {
                found(format!(
                    "timeline {}: when it had been received (received) is damaged: more of it is retained",
                    id.short()
                ));
            }
        }
        if gc::condemned::is_damaged(&self.neon_dir) {
            found("the list of garbage (condemned) is damaged: what is in it waits anew".to_owned());
        }
        if clock::is_damaged(&self.neon_dir) {
            found("what tells a jump of the clock (clock) is damaged: ages count from now".to_owned());
        }
    }
}
