//! The progress of long work, on stderr. Nothing is shown if stderr is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar with a known end.
pub(crate) fn bar(end: u64, template: &str) -> ProgressBar {
    ProgressBar::new(end).with_style(style(template))
}

/// A count without a known end.
pub(crate) fn count(template: &str) -> ProgressBar {
    let shown = ProgressBar::new_spinner().with_style(style(template));
    shown.enable_steady_tick(Duration::from_millis(100));
    shown
}

fn style(template: &str) -> ProgressStyle {
    // Templates are constants of this program, so they are valid.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
