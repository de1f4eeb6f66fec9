//! Progress bars on stderr; nothing when that is no terminal.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use neon_repo::api::{Progress, ProgressSink};

use super::Ui;
use crate::interrupt;

/// A bar for each label that is reported. They vanish when dropped.
pub struct Bars {
    ui: Ui,
    screen: MultiProgress,
    bars: HashMap<String, ProgressBar>,
}

impl Bars {
    /// Returns a screen without bars.
    pub fn new(ui: Ui) -> Bars {
        Bars {
            ui,
            screen: MultiProgress::new(),
            bars: HashMap::new(),
        }
    }
}

impl ProgressSink for Bars {
    fn report(&mut self, progress: &Progress) {
        if self.screen.is_hidden() || self.ui.is_json() {
            return;
        }
        let screen = &self.screen;
        let bar = self.bars.entry(progress.label.clone()).or_insert_with(|| {
            let bar = screen.add(ProgressBar::no_length());
            bar.set_style(style(progress));
            bar.set_message(progress.label.clone());
            bar
        });
        if progress.total > 0 && bar.length() != Some(progress.total) {
            bar.set_length(progress.total);
            bar.set_style(style(progress));
        }
        bar.set_position(progress.done);
        if progress.total > 0 && progress.done >= progress.total {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, line: &str) {
        if self.ui.is_json() || self.screen.is_hidden() {
            self.ui.beside(line);
        } else {
            // Nobody to tell when the terminal is gone.
            let _ = self.screen.println(line);
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::happened()
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
        let _ = self.screen.clear();
    }
}

fn style(progress: &Progress) -> ProgressStyle {
    let template = match (progress.unit.as_str(), progress.total > 0) {
        ("bytes", true) => {
            "{msg:24} {wide_bar} {binary_bytes:>10}/{binary_total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}"
        }
        ("bytes", false) => "{msg:24} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        (_, true) => "{msg:24} {wide_bar} {human_pos:>10}/{human_len:10} {eta:>4}",
        (_, false) => "{msg:24} {spinner} {human_pos}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_style_is_a_valid_template() {
        for unit in ["bytes", "objects"] {
            for total in [0, 7] {
                let progress = Progress {
                    label: "sealing".to_owned(),
                    done: 0,
                    total,
                    unit: unit.to_owned(),
                };
                let style = style(&progress);
                let bar = ProgressBar::hidden().with_style(style);
                bar.set_position(3);
            }
        }
        let mut bars = Bars::new(Ui::new(false));
        bars.report(&Progress {
            label: "x".to_owned(),
            done: 1,
            total: 1,
            unit: "bytes".to_owned(),
        });
    }
}
