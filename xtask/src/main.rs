//! `cargo xtask`: the checks that a change must pass, the same for a person and for CI.
//!
//! ```text
//! cargo xtask test [-- ARGS]     every test; installs what they need; ARGS go to the test programs
//! cargo xtask ci                 formatting, clippy, docs, rust-version, then every test
//! cargo xtask bench [ARGS]       measures and compares; --help says more
//! cargo xtask docs               builds the docs, runs README.md's code, follows the links between files
//! ```

mod layers;
mod links;
mod needs;
mod operator;
mod run;
mod rust_version;
mod scratch;
mod steps;

use run::Run;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test [-- ARGS]   runs every test, and installs what they need; ARGS go to the test programs, as in
                             `cargo xtask test -- breaker` or `cargo xtask test -- --nocapture`
cargo xtask ci               checks formatting, runs clippy, builds the docs, then runs every test
cargo xtask bench [ARGS]     measures and compares; `cargo xtask bench --help` says more
cargo xtask docs             builds the docs, runs README.md's code, follows the links between files";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = if arguments.is_empty() { String::new() } else { arguments.remove(0) };
    if task != "bench" && arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    } else if task != "bench" && !arguments.is_empty() {
        return unknown(&arguments.join(" "));
    }
    let mut run = Run::default();
    match &*task {
        "test" => steps::test(&mut run, &arguments),
        "ci" if arguments.is_empty() => steps::ci(&mut run),
        "docs" if arguments.is_empty() => steps::docs(&mut run),
        "bench" => return steps::bench(&arguments),
        "" | "help" | "-h" | "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => return unknown(other),
    }
    run.report()
}

fn unknown(what: &str) -> ExitCode {
    eprintln!("cargo xtask does not know `{what}`.\n\n{USAGE}");
    ExitCode::from(2)
}
