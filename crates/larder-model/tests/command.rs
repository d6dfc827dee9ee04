//! The command.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

/// `println!` panics there, as in `larder-model | head`.
#[test]
fn a_reader_that_has_gone_away_ends_it_without_a_panic() {
    for arguments in [&["--list"][..], &["--help"], &["--small", "--config", "feed-late"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_larder-model")).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(2), String::new()));
    }
}
