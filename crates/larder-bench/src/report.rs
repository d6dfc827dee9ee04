//! The results: as a page for people, as plots, and as JSON for programs.

use crate::chart::Chart;
use crate::machine::Machine;
use crate::measure::{Effort, Row};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod json;
mod markdown;
mod svg;

pub(crate) use json::json;
pub(crate) use markdown::{chart_table, summary, table};

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The names of the servers, with their versions.
    pub(crate) servers: Vec<String>,
    pub(crate) effort: Effort,
    /// The command line.
    pub(crate) command: String,
    pub(crate) took: Duration,
    pub(crate) sections: Vec<Told>,
}

/// A section that was measured.
pub(crate) struct Told {
    pub(crate) title: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) charts: Vec<Chart>,
    /// Why rows or plots could not be measured.
    pub(crate) failures: Vec<String>,
}

impl Report {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    pub(crate) fn charts(&self) -> impl Iterator<Item = &Chart> {
        self.sections.iter().flat_map(|section| &section.charts)
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = &String> {
        self.sections.iter().flat_map(|section| &section.failures)
    }

    /// Writes `performance.md` and its plots into the workspace's `docs`. Returns the path of the page.
    pub(crate) fn write(&self) -> io::Result<PathBuf> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let plots = docs.join("performance");
        fs::create_dir_all(&plots)?;
        for chart in self.charts() {
            fs::write(plots.join(format!("{}.svg", chart.name)), svg::draw(chart))?;
        }
        let page = docs.join("performance.md");
        fs::write(&page, markdown::page(self))?;
        page.canonicalize()
    }
}
