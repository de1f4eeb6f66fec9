//! What people see: results on stdout, everything else on stderr.

pub mod error;
pub mod password;
pub mod progress;
pub mod size;
pub mod style;
pub mod table;
pub mod tree;

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// How results are shown.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    json: bool,
}

impl Ui {
    /// Returns how results are shown: as JSON, or for people.
    pub fn new(json: bool) -> Ui {
        Ui { json }
    }

    /// Returns true when results are shown as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result on stdout: as JSON, or by `human`.
    pub fn show<T: Serialize>(
        &self,
        result: &T,
        human: impl FnOnce(&T, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, result).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            human(result, &mut out)?;
        }
        out.flush()?;
        Ok(())
    }

    /// Prints remarks on stderr; in JSON they are part of the result.
    pub fn notes(&self, notes: &[String]) {
        if self.json {
            return;
        }
        let mut err = anstream::stderr().lock();
        for note in notes {
            // Nobody to tell when stderr is gone.
            let _ = writeln!(err, "{}note:{:#} {note}", style::NOTE, style::NOTE);
        }
    }

    /// Prints a sentence on stderr while work goes on; with JSON as an object on a line of its own.
    pub fn beside(&self, line: &str) {
        let line = if self.json {
            serde_json::json!({ "note": line }).to_string()
        } else {
            line.to_owned()
        };
        // Nobody to tell when stderr is gone.
        let _ = writeln!(anstream::stderr().lock(), "{line}");
    }

    /// Prints a sentence on stderr that is neither result nor error; not with JSON.
    pub fn say(&self, line: &str) {
        if !self.json {
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }
}
