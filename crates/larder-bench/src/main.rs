//! Measures how fast larder is, compared with a limit or a peer in the same run: `cargo xtask bench`.
//!
//! A figure says little about another machine, a ratio of two figures says much. So the contestants of a group take turns, round by round.
//! A row compares two of them: the median ratio of the rounds, its spread, and the bar. To add rows, write a function that returns a group,
//! and name it in `catalogue.rs`.

mod allocations;
mod breaker;
mod catalogue;
mod chart;
mod clients;
mod cluster;
mod cold_key;
mod followers;
mod hung;
mod latency;
mod machine;
mod measure;
mod memory;
mod options;
mod postgres_bed;
mod postgres_feed;
mod postgres_get;
mod postgres_size;
mod postgres_store;
mod postgres_trigger;
mod redis_client;
mod redis_get;
mod redis_instructions;
mod redis_many;
mod redis_store;
mod report;
mod sample;
mod scale;
mod testbed;
mod tiers;

use catalogue::Section;
use machine::Machine;
use options::Options;
use report::{Report, Told};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, port] = &*arguments
        && first == cold_key::READERS
    {
        return ended(cold_key::read(port).map(|()| true));
    }
    match Options::read(arguments.iter().cloned()) {
        Ok(Some(options)) if options.list => ended(list().map(|()| true)),
        Ok(Some(options)) => ended(measure(&options, &arguments)),
        Ok(None) => {
            println!("{}", options::USAGE);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::USAGE);
            ExitCode::from(2)
        }
    }
}

fn ended(result: Result<bool, String>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), String> {
    let servers = catalogue::Servers::found()?;
    for section in catalogue::sections(&servers) {
        println!("{}", section.title);
        let rows = section.groups.iter().flat_map(|group| group.rows.iter().map(|row| (&row.name, row.bar)));
        rows.chain(section.waiting.iter().map(|row| (&row.name, row.bar)))
            .for_each(|(name, bar)| println!("  {name}  {bar}"));
        section.plots.iter().for_each(|plot| println!("  {}  plot", plot.name));
    }
    Ok(())
}

/// Measures and reports. Returns whether every row with a bar passes and everything could be measured.
fn measure(options: &Options, arguments: &[String]) -> Result<bool, String> {
    let begun = Instant::now();
    let servers = catalogue::Servers::found()?;
    let sections = catalogue::sections(&servers).into_iter().map(|section| tell(section, options));
    let report = Report {
        machine: Machine::here(),
        servers: servers.names(),
        effort: options.effort(),
        command: [&["cargo xtask bench".to_owned()], arguments].concat().join(" "),
        sections: sections.collect(),
        took: begun.elapsed(),
    };
    if report.rows().next().is_none() && report.charts().next().is_none() && report.failures().next().is_none() {
        return Err("no row has that name; --list names them all, and without --only all are measured".to_owned());
    }
    if report.rows().next().is_some() {
        let counted: Vec<_> = report.rows().collect();
        for section in report.sections.iter().filter(|section| !section.rows.is_empty()) {
            print!("\n{}", report::table(&section.rows, &counted));
        }
        print!("\n{}", report::summary(report.rows()));
    }
    report.charts().for_each(|chart| print!("\n{}\n{}", chart.title, report::chart_table(chart)));
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&report)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if options.is_whole() {
        let page = report.write().map_err(|error| format!("docs/performance.md cannot be written: {error}"))?;
        println!("\nwritten: {}", page.display());
    }
    report.failures().for_each(|failure| println!("not measured: {failure}"));
    Ok(report.failures().next().is_none() && report.rows().all(|row| row.passed() != Some(false)))
}

/// Measures the wanted rows and plots of a section. A failure is noted, and the rest goes on.
fn tell(section: Section, options: &Options) -> Told {
    let Section { title, meaning, groups, waiting, plots } = section;
    let mut told = Told { title, meaning, rows: Vec::new(), charts: Vec::new(), failures: Vec::new() };
    for group in groups {
        if !group.rows.iter().any(|row| options.wants(&row.name)) {
            continue;
        }
        eprintln!("\n{}", group.name);
        match group.measure(options.effort()) {
            Ok(rows) => {
                let rows: Vec<_> = rows.into_iter().filter(|row| options.wants(&row.name)).collect();
                eprint!("{}", report::table(&rows, &[]));
                told.rows.extend(rows);
            }
            Err(error) => {
                eprintln!("{error}");
                told.failures.push(error);
            }
        }
    }
    told.rows.extend(waiting.into_iter().filter(|row| options.wants(&row.name)));
    for plot in plots.into_iter().filter(|plot| options.wants(plot.name)) {
        eprintln!("\n{}", plot.title);
        match plot.measure(options.effort()) {
            Ok(chart) => told.charts.push(chart),
            Err(error) => {
                eprintln!("{error}");
                told.failures.push(error);
            }
        }
    }
    told
}
