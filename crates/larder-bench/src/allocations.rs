//! How often an operation allocates memory, and how much.
//!
//! A second program counts, `larder-bench-allocations` (`allocations/count.rs`), because its counting allocator would slow down the
//! measurements of this one.

use crate::measure::{Comparison, Contestant, Group};
use crate::testbed::{Testbed, text};
use larder_testing::server::ServerBinary;
use std::process::Command;

/// What the other program counts: the name of the row here, the operation there, and the operation to compare it with.
const COUNTED: [(&str, &str, Option<&str>); 6] = [
    ("memory-get", "get by secondary key, memory", None),
    ("memory-set", "set, memory", None),
    ("redis-get", "get by primary key", Some("GET and decode")),
    ("redis-get-secondary", "get by secondary key, warm", Some("GET and decode")),
    ("redis-set", "set", Some("encode and SET")),
    ("redis-invalidate", "invalidate", None),
];

pub(crate) const PROGRAM: &str = "larder-bench-allocations";

pub(crate) fn rows(binary: &ServerBinary) -> Group {
    let rows = COUNTED.iter().flat_map(|(row, ours, peer)| {
        ["", ", bytes"].map(|what| {
            let name = format!("allocations{}/{row}", if what.is_empty() { "" } else { "-bytes" });
            match peer {
                Some(peer) => {
                    Comparison::new(name, format!("{ours}{what}"), format!("{peer}{what}"), crate::measure::Bar::Open)
                }
                None => Comparison::alone(name, format!("{ours}{what}")),
            }
        })
    });
    let binary = binary.clone();
    Group {
        name: "allocations".into(),
        rows: rows.collect(),
        contestants: Box::new(move |_| {
            let bed = Testbed::start(&binary, 1)?;
            let counted = count(bed.port()?)?;
            let figures = counted
                .iter()
                .flat_map(|(name, _, _)| [(name.clone(), "allocations"), (format!("{name}, bytes"), "B")]);
            let figures: Vec<_> = figures.collect();
            Ok(vec![Contestant::of_several(figures, move || {
                Ok(counted.iter().flat_map(|(_, count, bytes)| [*count, *bytes]).collect())
            })])
        }),
        varies: false,
    }
}

/// Allocations and bytes of one operation of each kind.
fn count(port: u16) -> Result<Vec<(String, f64, f64)>, String> {
    let program = std::env::current_exe().map_err(text)?.with_file_name(PROGRAM);
    let output = Command::new(&program).arg(port.to_string()).output();
    let output = output.map_err(|error| {
        format!("{}: {error}; build it with `cargo build --release -p larder-bench`", program.display())
    })?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    read(&String::from_utf8_lossy(&output.stdout))
}

fn read(lines: &str) -> Result<Vec<(String, f64, f64)>, String> {
    let line = |line: &str| {
        let mut parts = line.split('\t');
        let name = parts.next()?.to_owned();
        Some((name, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    lines.lines().map(|text| line(text).ok_or(format!("{PROGRAM} says: {text}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read() {
        assert_eq!(read("set\t3.5\t400\n"), Ok(vec![("set".to_owned(), 3.5, 400.0)]));
        assert_eq!(read("set\t3.5\n"), Err(format!("{PROGRAM} says: set\t3.5")));
    }
}
