//! How fast larder is, beside a limit or a peer that is measured in the same run: `cargo xtask bench`.
//!
//! A machine's speed says little, a ratio on one machine says much. So the contestants of a [`Group`] take
//! turns, round by round, and a row compares two of them: the median over the rounds, its spread, and the bar.
//! To add rows, write a function that returns a group, and name it in [`GROUPS`].

mod breaker;
mod measure;
mod memory;
mod options;
mod report;

use measure::{Group, Row};
use options::Options;
use std::process::ExitCode;

/// All rows, in the order they are printed.
const GROUPS: &[fn() -> Group] = &[breaker::closed, breaker::open, memory::primary, memory::secondary, memory::threads];

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure_all(&options) {
        Ok(rows) if rows.iter().all(Row::passed) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(options: &Options) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for make in GROUPS {
        let group = make();
        if group.rows.iter().any(|row| options.wants(row.name)) {
            eprintln!("measuring {} in {} rounds", group.name, options.rounds);
            rows.extend(group.measure(options.rounds)?.into_iter().filter(|row| options.wants(row.name)));
        }
    }
    if rows.is_empty() {
        return Err("no row has that name; without --only all are measured".to_owned());
    }
    print!("{}", report::table(&rows));
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&rows)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(rows)
}
