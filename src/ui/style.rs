//! The few colors. They reach a terminal only: streams strip them elsewhere.

use anstyle::{AnsiColor, Style};

/// `error:`
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// `hint:`
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// `note:`
pub const NOTE: Style = AnsiColor::Blue.on_default().bold();
/// Ids of commits.
pub const COMMIT: Style = AnsiColor::Yellow.on_default();
/// What is running or current.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What needs a look.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Heads of columns and what matters less.
pub const DIM: Style = Style::new().dimmed();
