//! What the command prints.

use std::fmt::Display;
use std::io::Write;

/// Prints a line to stdout. A reader that has gone away (`larder-torture … | head`) is no reason to panic, as `println!` would.
pub(crate) fn line(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
