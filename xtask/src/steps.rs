//! The steps of each task.
//!
//! All steps use the same target folder, and all but one use the same profile, so that nothing is built twice. The library is built and
//! tested with each choice of features that its users make: none, the default, and all. Everything else is built with all features.

use crate::layers;
use crate::links;
use crate::needs;
use crate::operator;
use crate::run::{Run, build_once, cargo, root, succeed, succeed_and_count};
use crate::rust_version;
use crate::scratch;
use std::process::ExitCode;

/// The arguments of every cargo command for the whole workspace.
const ALL: [&str; 2] = ["--workspace", "--all-features"];

/// The choices of features that users of the library make, other than all features: the name of the step, and the arguments for cargo.
const FEATURES: [(&str, &[&str]); 2] = [("no features", &["--no-default-features"]), ("default features", &[])];

/// The features that users choose from. The library must build with each of them alone. Without any feature, it is tested above.
const EACH: [&str; 10] =
    ["postgres", "redis", "remote", "sqlx-postgres", "tokio-postgres", "toml", "torture", "uuid", "yaml", "zitadel"];

/// How many tests of a program run at the same time. Most of them wait for servers: with one for each of two processors, these would be idle half of the time.
const THREADS: &str = "4";

/// Every test. `arguments` go to the test programs.
pub(crate) fn test(run: &mut Run, arguments: &[String]) {
    // A test that finds no server fails and says so. There is no need to see a hundred such tests.
    if !run.step("needs", |_| needs::provide()) {
        return;
    }
    if !run.step("build", |_| succeed(cargo(["test", "--no-run"]).args(ALL))) {
        return;
    }
    let scratch = scratch::in_memory();
    if let Some(folder) = scratch {
        eprintln!("tests write to {folder}, which is kept in memory; set TMPDIR for another folder");
    }
    let scratch = scratch.map(|folder| ("TMPDIR", folder));
    // `larder-interleavings` compiles larder's own files. Their doc tests run with larder.
    let shared = ["--exclude", "larder-interleavings"];
    let tests = |run: &mut Run, name, kinds: &[&str]| {
        run.step(name, |tests| {
            let mut command = cargo(["test", "--no-fail-fast"]);
            command.args(ALL).args(kinds).arg("--").args(arguments).env("RUST_TEST_THREADS", THREADS).envs(scratch);
            succeed_and_count(&mut command, tests)
        });
    };
    tests(run, "tests", &["--lib", "--bins", "--tests", "--examples"]);
    tests(run, "doc tests", &[&["--doc"][..], &shared].concat());
    for (name, features) in FEATURES {
        run.step(name, |tests| {
            let mut command = cargo(["test", "--package", "larder", "--no-fail-fast"]);
            command.args(features).arg("--").args(arguments).env("RUST_TEST_THREADS", THREADS).envs(scratch);
            succeed_and_count(&mut command, tests)
        });
    }
    // The size of an idle process must be measured in a release build, which is what users run.
    run.step("release build", |tests| {
        let mut command = cargo(["test", "--release", "--package", "larder-idle"]);
        succeed_and_count(command.arg("--").args(arguments), tests)
    });
}

/// Everything that a change must pass.
pub(crate) fn ci(run: &mut Run) {
    build_once();
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
    // Built alone, a program has only the features that it asks for. In a build of the whole workspace it has those of all members.
    run.step("alone", |_| {
        let programs = ["larder-demo", "larder-torture", "larder-cli", "larder-examples"];
        programs.iter().try_for_each(|program| succeed(cargo(["check", "--package"]).arg(program)))
    });
    run.step("rust-version", |_| rust_version::check());
    run.step("operator's tool", |_| operator::check());
    build_docs(run);
    follow_links(run);
    test(run, &[]);
}

/// Builds the docs, follows their links, and runs the code of README.md.
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

/// Builds the benchmarks with optimisation, and runs them. They read their own arguments.
pub(crate) fn bench(arguments: &[String]) -> ExitCode {
    let package = ["--quiet", "--release", "--package", "larder-bench"];
    if let Err(error) = needs::provide() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    // Build all programs of the package: the benchmark runs a second one, which counts allocations.
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
