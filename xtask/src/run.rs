//! Runs steps one after the other, and reports how long each took, whether it passed, and how many tests ran in all.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The steps so far. A step that failed does not keep the others from running.
#[derive(Default)]
pub(crate) struct Run {
    steps: Vec<Step>,
    tests: Tests,
}

struct Step {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// What the test programs have reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    programs: u64,
    passed: u64,
    failed: u64,
    /// Tests that a filter on the command line left out.
    filtered: u64,
    /// Tests that `#[ignore]`, or `ignore` in documentation, left out. They are named at the end, so that somebody notices.
    ignored: Vec<String>,
    /// Conformance cases that a connector cannot run. Each was printed with its reason.
    left_out: u64,
}

impl Run {
    /// Runs one step. Returns whether the step passed.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce(&mut Tests) -> Result<(), String>) -> bool {
        eprintln!("\n── {name}");
        let begun = Instant::now();
        let result = work(&mut self.tests);
        if let Err(complaint) = &result {
            eprintln!("{name}: {complaint}");
        }
        self.steps.push(Step { name, took: begun.elapsed(), passed: result.is_ok() });
        result.is_ok()
    }

    /// Prints how all steps went. This is the last thing that is printed.
    pub(crate) fn report(self) -> ExitCode {
        println!();
        for name in &self.tests.ignored {
            println!("ignored: {name}");
        }
        let times: Vec<_> = self.steps.iter().map(|step| format!("{} {}", step.name, short(step.took))).collect();
        println!("{}{}", times.join(", "), self.tests.summary());
        let mut failed: Vec<_> = self.steps.iter().filter(|step| !step.passed).map(|step| step.name).collect();
        if self.tests.none() {
            failed.push("no test has run");
        }
        if failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

fn short(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

impl Tests {
    /// Reads a line of `cargo test`.
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored")) {
            // The same test is ignored again with each choice of features.
            if !self.ignored.iter().any(|ignored| ignored == name.0) {
                self.ignored.push(name.0.to_owned());
            }
        }
        self.left_out += u64::from(line.contains("left out: "));
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
        self.programs += 1;
        for count in counts.1.split(';') {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("filtered") => self.filtered += number,
                _ => {}
            }
        }
    }

    fn summary(&self) -> String {
        if self.programs == 0 {
            return String::new();
        }
        let mut summary = format!(": {} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored.len());
        if self.filtered > 0 {
            summary += &format!(", {} filtered out", self.filtered);
        }
        if self.left_out > 0 {
            summary += &format!(", {} conformance cases left out, each with its reason", self.left_out);
        }
        summary
    }

    /// Whether test programs ran, but not a single test.
    fn none(&self) -> bool {
        self.programs > 0 && self.passed + self.failed == 0
    }
}

/// Whether what is built is built from nothing, and never again.
static BUILDS_ONCE: AtomicBool = AtomicBool::new(false);

/// Variables for cargo where everything is built once: without what makes the next build of the same code quicker (with it, the test program `redis` takes 150 s
/// of processor time instead of 70 s), and without what a debugger needs. A test that fails says its line all the same.
const ONCE: [(&str, &str); 2] = [("CARGO_INCREMENTAL", "0"), ("CARGO_PROFILE_DEV_DEBUG", "0")];

/// From now on, every [`cargo`] command builds so, unless the environment sets one of the variables.
pub(crate) fn build_once() {
    BUILDS_ONCE.store(true, Ordering::Relaxed);
}

/// A cargo command, run in the workspace.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    if BUILDS_ONCE.load(Ordering::Relaxed) {
        for (name, value) in ONCE {
            if env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
    }
    // `cargo run` has set these variables for xtask. Build scripts that look at them would run again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_BIN_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Runs a command that must succeed.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    eprintln!("{}", shown(command));
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed", shown(command))) }
}

/// Runs a command that must succeed, and returns what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("`{}` failed: {}", shown(command), String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `cargo test`, copies its output to the terminal, and counts the tests.
pub(crate) fn succeed_and_count(command: &mut Command, tests: &mut Tests) -> Result<(), String> {
    eprintln!("{}", shown(command));
    let shown = shown(command);
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tests.read(&line);
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed")) }
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_test_programs_are_added_up_and_ignored_tests_are_named() {
        let mut tests = Tests::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test b::c ... ignored, needs an hour",
            "test src/lib.rs - Thing (line 3) ... ignored",
            "left out: Mine: C11 emptied: there are no bytes",
            "test c11_any_bytes ... left out: Mine: C11 cut_short: there are no bytes",
            "test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 19 filtered out; finished in 0.12s",
            "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            tests.read(line);
        }
        assert_eq!(tests.ignored, ["b::c", "src/lib.rs - Thing (line 3)"]);
        assert_eq!(
            tests.summary(),
            ": 41 passed, 2 failed, 2 ignored, 19 filtered out, 2 conformance cases left out, each with its reason"
        );
    }

    #[test]
    fn a_run_in_which_no_test_ran_is_known() {
        let mut tests = Tests::default();
        tests.read("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 12 filtered out; finished in 0.00s");
        assert!(tests.none());
    }
}
