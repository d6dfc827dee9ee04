//! The command line.

use crate::measure::Effort;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
cargo xtask bench [--quick] [--only ROW] [--rounds N] [--json FILE]
cargo xtask bench --list

Measures everything and writes docs/performance.md. With --only, measures some rows and writes no page.

  --quick        5 rounds, and fewer operations and smaller sizes in each: 15 minutes instead of an hour
  --only ROW     measures only the rows whose names begin with ROW, such as `memory` or `breaker-open`
  --rounds N     measures every contestant N times, taking turns; at least 5, and 11 by default
  --json FILE    writes the rows to FILE, as JSON
  --list         names the rows, and measures nothing

Exit code 1: a row misses its bar, or could not be measured.";

/// The median of fewer rounds says too little.
const FEWEST_ROUNDS: usize = 5;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Option<String>,
    rounds: Option<usize>,
    quick: bool,
    pub(crate) list: bool,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// `None` if help was asked for.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match &*argument {
                "--only" => options.only = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--rounds" => {
                    let rounds = value()?;
                    options.rounds = match rounds.parse() {
                        Ok(number) if number >= FEWEST_ROUNDS => Some(number),
                        _ => return Err(format!("--rounds is {rounds}: give {FEWEST_ROUNDS} or more")),
                    };
                }
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("`{argument}` is not known")),
            }
        }
        Ok(Some(options))
    }

    pub(crate) fn effort(&self) -> Effort {
        let rounds = self.rounds.unwrap_or(if self.quick { FEWEST_ROUNDS } else { 11 });
        Effort { rounds, quick: self.quick }
    }

    /// Whether everything is measured.
    pub(crate) fn is_whole(&self) -> bool {
        self.only.is_none()
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only.as_ref().is_none_or(|only| row.starts_with(only.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<Options>, String> {
        Options::read(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn options_are_read_and_mistakes_are_named() {
        let options = read(&["--only", "memory", "--rounds", "7", "--json", "t.json"]).unwrap().unwrap();
        assert_eq!(options.json, Some("t.json".into()));
        assert_eq!(options.effort(), Effort { rounds: 7, quick: false });
        assert!(!options.is_whole());
        assert!(options.wants("memory-get") && !options.wants("breaker"));
        let quick = read(&["--quick", "--list"]).unwrap().unwrap();
        assert_eq!(quick.effort(), Effort { rounds: 5, quick: true });
        assert!(quick.is_whole() && quick.list);
        assert_eq!(read(&["--help"]), Ok(None));
        assert_eq!(read(&["--rounds", "4"]), Err("--rounds is 4: give 5 or more".into()));
        assert_eq!(read(&["--json"]), Err("--json needs a value".into()));
        assert_eq!(read(&["fast"]), Err("`fast` is not known".into()));
    }
}
