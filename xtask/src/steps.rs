//! What each task does. All of it with the same target folder, and all but one step with the same profile, so that nothing is built twice. The library is built and tested
//! with each choice of features that its users make: none, the default, and all, which is what everything else is built with.

use crate::layers;
use crate::links;
use crate::needs;
use crate::run::{Run, cargo, root, succeed, succeed_and_count};
use crate::rust_version;
use std::process::ExitCode;

/// What every cargo command here has in common.
const ALL: [&str; 2] = ["--workspace", "--all-features"];

/// What users of the library build, beside all features: the name of the step, and the arguments for cargo.
const FEATURES: [(&str, &[&str]); 2] = [("no features", &["--no-default-features"]), ("default features", &[])];

/// The features that users choose from: each has to build by itself. What there is beside the features is tested with none of them.
const EACH: [&str; 6] = ["redis", "toml", "torture", "uuid", "yaml", "zitadel"];

/// Every test. `arguments` go to the test programs.
pub(crate) fn test(run: &mut Run, arguments: &[String]) {
    // Without its server a test fails, and says so; no need to see a hundred of them.
    if !run.step("needs", |_| needs::provide()) {
        return;
    }
    if !run.step("build", |_| succeed(cargo(["test", "--no-run"]).args(ALL))) {
        return;
    }
    // The files that it shares are larder's, and so are the examples in them.
    let shared = ["--exclude", "larder-interleavings"];
    let tests = |run: &mut Run, name, kinds: &[&str]| {
        run.step(name, |tests| {
            let mut command = cargo(["test", "--no-fail-fast"]);
            command.args(ALL).args(kinds).arg("--").args(arguments);
            succeed_and_count(&mut command, tests)
        });
    };
    tests(run, "tests", &["--lib", "--bins", "--tests", "--examples"]);
    tests(run, "doc tests", &[&["--doc"][..], &shared].concat());
    for (name, features) in FEATURES {
        run.step(name, |tests| {
            let mut command = cargo(["test", "--package", "larder", "--no-fail-fast"]);
            command.args(features).arg("--").args(arguments);
            succeed_and_count(&mut command, tests)
        });
    }
    // How small a process is can only be asked of what users run.
    run.step("release build", |tests| {
        let mut command = cargo(["test", "--release", "--package", "larder", "--test", "idle"]);
        succeed_and_count(command.arg("--").args(arguments), tests)
    });
}

/// What a change must pass.
pub(crate) fn ci(run: &mut Run) {
    run.step("formatting", |_| succeed(&mut cargo(["fmt", "--all", "--check"])));
    run.step("imports", |_| {
        let upward = layers::upward(&root()).map_err(|error| error.to_string())?;
        if upward.is_empty() { Ok(()) } else { Err(format!("\n{}", upward.join("\n"))) }
    });
    run.step("clippy", |_| {
        let mut clippy = cargo(["clippy", "--all-targets", "--keep-going"]);
        succeed(clippy.args(ALL).args(["--", "-D", "warnings"]))?;
        let mut clippy = cargo(["clippy", "--all-targets", "--keep-going", "--package", "larder"]);
        succeed(clippy.args(["--no-default-features", "--", "-D", "warnings"]))?;
        for feature in EACH {
            let mut clippy = cargo(["clippy", "--package", "larder", "--lib", "--no-default-features"]);
            succeed(clippy.args(["--features", feature, "--", "-D", "warnings"]))?;
        }
        Ok(())
    });
    run.step("rust-version", |_| rust_version::check());
    build_docs(run);
    follow_links(run);
    test(run, &[]);
}

/// Everything about the docs.
pub(crate) fn docs(run: &mut Run) {
    build_docs(run);
    follow_links(run);
    run.step("README.md", |tests| {
        succeed_and_count(&mut cargo(["test", "--package", "xtask", "--all-features", "--doc"]), tests)
    });
}

fn build_docs(run: &mut Run) {
    run.step("docs", |_| {
        let mut doc = cargo(["doc", "--no-deps", "--keep-going"]);
        succeed(doc.args(ALL).env("RUSTDOCFLAGS", "-D warnings"))
    });
}

fn follow_links(run: &mut Run) {
    run.step("links", |_| {
        let broken = links::broken(&root()).map_err(|error| error.to_string())?;
        if broken.is_empty() { Ok(()) } else { Err(format!("\n{}", broken.join("\n"))) }
    });
}

/// The benchmarks, optimised; they read their own arguments.
pub(crate) fn bench(arguments: &[String]) -> ExitCode {
    let package = ["--quiet", "--release", "--package", "larder-bench"];
    if let Err(error) = needs::provide() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    // All of its programs: the one that is run calls another, which counts allocations.
    if let Err(error) = succeed(cargo(["build"]).args(package)) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let mut command = cargo(["run"]);
    match command.args(package).arg("--").args(arguments).status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("cargo cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}
