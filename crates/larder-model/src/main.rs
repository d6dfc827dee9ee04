//! Checks the model of the protocol: by default every configuration at its large size.

use larder_model::check::{Report, Violation};
use larder_model::protections::{Removable, Removed};
use larder_model::scenes::{Config, Size, configs};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
cargo run --release -p larder-model -- [--config NAME] [--without X] [--small] [--threads N]

Checks every configuration of the protocol's model exhaustively. Exit code 1: a promise is broken.

  --config NAME  check only this configuration; may be repeated
  --without X    check without this protection or assumption, and print the shortest way to break a promise; may be repeated
  --small        check the small sizes, as the tests do: seconds instead of minutes
  --threads N    2 by default
  --list         names the configurations, protections and assumptions";

struct Options {
    configs: Vec<&'static Config>,
    removed: Vec<Removable>,
    size: Size,
    threads: usize,
}

fn main() -> ExitCode {
    let done = match read(std::env::args().skip(1)) {
        Ok(Asked::Check(options)) => run(&options),
        Ok(Asked::List) => list().map(|()| ExitCode::SUCCESS),
        Ok(Asked::Help) => line(USAGE).map(|()| ExitCode::SUCCESS),
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Whoever reads has gone away (`… | head`), and nobody would hear of the rest. What was not checked does not hold.
    done.unwrap_or(ExitCode::from(2))
}

/// Prints a line. `println!` panics where nobody reads any more.
fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// What the arguments ask for.
enum Asked {
    Check(Options),
    List,
    Help,
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options { configs: Vec::new(), removed: Vec::new(), size: Size::Large, threads: 2 };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match &*argument {
            "--config" => {
                let name = value()?;
                let config = Config::named(&name).ok_or(format!("there is no configuration `{name}`"))?;
                options.configs.push(config);
            }
            "--without" => {
                let name = value()?;
                let removable = Removable::named(&name).ok_or(format!("there is nothing called `{name}` to remove"))?;
                options.removed.push(removable);
            }
            "--threads" => {
                options.threads = value()?.parse().map_err(|_| "--threads needs a number".to_owned())?;
            }
            "--small" => options.size = Size::Small,
            "--list" => return Ok(Asked::List),
            "--help" | "-h" => return Ok(Asked::Help),
            _ => return Err(format!("`{argument}` is not known")),
        }
    }
    if options.configs.is_empty() {
        options.configs = configs().collect();
    }
    Ok(Asked::Check(options))
}

fn list() -> io::Result<()> {
    line("configurations")?;
    for config in configs() {
        line(format_args!("  {:22} {}", config.name, config.about))?;
    }
    line("protections and assumptions")?;
    for removable in Removable::ALL {
        line(format_args!("  {:26}{}", removable.name(), removable.words()))?;
    }
    Ok(())
}

fn run(options: &Options) -> io::Result<ExitCode> {
    let removed: Removed = options.removed.iter().copied().collect();
    let mut total = Duration::ZERO;
    let mut states = 0;
    let mut broken = 0;
    line(format_args!("{:22} {:>12} {:>6} {:>9}  ", "configuration", "states", "depth", "seconds"))?;
    for config in &options.configs {
        let report = config.check(options.size, removed, options.threads);
        line(format_args!(
            "{:22} {:>12} {:>6} {:>9.1}  {}",
            config.name,
            report.states,
            report.depth,
            report.time.as_secs_f64(),
            verdict(config, &report),
        ))?;
        total += report.time;
        states += report.states;
        if let Some(found) = report.violation {
            broken += 1;
            line(told(config, options, removed, found))?;
        }
    }
    line(format_args!("{:22} {states:>12} {:>6} {:>9.1}", "all", "", total.as_secs_f64()))?;
    Ok(if broken > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The violation with the shortest trace: at the small size, which has fewer states; otherwise at the size of this run; otherwise the
/// violation that was found.
fn told(config: &Config, options: &Options, removed: Removed, found: Violation) -> Violation {
    config.shortest(Size::Small, removed).or_else(|| config.shortest(options.size, removed)).unwrap_or(found)
}

fn verdict(config: &Config, report: &Report) -> String {
    if report.violation.is_some() {
        return "broken".to_owned();
    }
    let missing: Vec<_> = config.reaches.iter().filter(|name| !report.reached.contains(**name)).collect();
    if missing.is_empty() { "holds".to_owned() } else { format!("holds, but never: {missing:?}") }
}
