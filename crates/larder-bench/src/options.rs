//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
cargo xtask bench [--only ROW] [--rounds N] [--json FILE]

  --only ROW     only the rows whose names begin with ROW, such as `memory` or `breaker-open`
  --rounds N     measures every contestant N times, taking turns; at least 5, and 11 by default
  --json FILE    writes the table to FILE as well, as JSON

Ends with 1 where a row misses its bar.";

/// Fewer rounds have no median worth the name.
const FEWEST_ROUNDS: usize = 5;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    only: Option<String>,
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// None where help is asked for.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { only: None, rounds: 11, json: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match &*argument {
                "--only" => options.only = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--rounds" => {
                    let rounds = value()?;
                    options.rounds = match rounds.parse() {
                        Ok(number) if number >= FEWEST_ROUNDS => number,
                        _ => return Err(format!("--rounds is {rounds}: give {FEWEST_ROUNDS} or more")),
                    };
                }
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("`{argument}` is not known")),
            }
        }
        Ok(Some(options))
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
        let options = read(&["--only", "memory", "--rounds", "5", "--json", "t.json"]).unwrap().unwrap();
        assert_eq!(options, Options { only: Some("memory".into()), rounds: 5, json: Some("t.json".into()) });
        assert!(options.wants("memory-get") && !options.wants("breaker"));
        assert_eq!(read(&["--help"]), Ok(None));
        assert_eq!(read(&["--rounds", "4"]), Err("--rounds is 4: give 5 or more".into()));
        assert_eq!(read(&["--json"]), Err("--json needs a value".into()));
        assert_eq!(read(&["fast"]), Err("`fast` is not known".into()));
    }
}
