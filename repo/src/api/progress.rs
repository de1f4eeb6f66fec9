//! How far long work is.

use serde::{Deserialize, Serialize};

/// How far long work is. A bar has a label; `total` 0 means unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, as "sealing" or "receiving".
    pub label: String,
    /// Done so far.
    pub done: u64,
    /// Of how much.
    pub total: u64,
    /// `bytes` or a counted noun.
    pub unit: String,
}

/// Takes progress reports.
pub trait ProgressSink: Send {
    /// Shows, or drops, one report. Called often; must be cheap.
    fn report(&mut self, progress: &Progress);
    /// A line for the user on stderr while work goes on.
    fn note(&mut self, line: &str);
    /// Returns true once nobody waits for the result any more; long transfers stop at the next part.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Drops every report.
#[derive(Debug, Default)]
pub struct Quiet;

impl ProgressSink for Quiet {
    fn report(&mut self, _: &Progress) {}
    fn note(&mut self, _: &str) {}
}
