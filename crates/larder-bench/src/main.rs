//! How fast larder is, beside a limit or a peer that is measured in the same run: `cargo xtask bench`.
//!
//! A machine's speed says little, a ratio on one machine says much. So the contestants of a group take turns, round by
//! round, and a row compares two of them: the median over the rounds, its spread, and the bar. To add rows, write a
//! function that returns a group, and name it in `catalogue.rs`.

mod breaker;
mod catalogue;
mod measure;
mod memory;
mod options;
mod redis_client;
mod redis_get;
mod redis_store;
mod report;
mod sample;
mod testbed;

use measure::Row;
use options::Options;
use std::process::ExitCode;

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
        Ok(rows) if rows.iter().all(|row| row.passed() != Some(false)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(options: &Options) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for section in catalogue::sections()? {
        for group in section.groups {
            if options.list {
                group.rows.iter().for_each(|row| println!("{}  {}", row.name, row.bar));
                continue;
            }
            if group.rows.iter().any(|row| options.wants(&row.name)) {
                eprintln!("{} …", group.name);
                rows.extend(group.measure(options.effort())?.into_iter().filter(|row| options.wants(&row.name)));
            }
        }
    }
    print!("{}", report::table(&rows));
    Ok(rows)
}
