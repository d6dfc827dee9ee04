//! What the command prints.

use std::fmt::Display;
use std::io::Write;

/// Prints a line to stdout. Unlike `println!`, this does not panic if the reader has gone away (`larder-torture … | head`).
pub(crate) fn line(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
