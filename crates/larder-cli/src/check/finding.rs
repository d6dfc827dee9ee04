//! The result of one check.

use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The subject, such as `version` or `eviction`.
    pub(super) topic: &'static str,
    pub(super) level: Level,
    /// What was found, and what it means for larder.
    pub(super) text: Cow<'static, str>,
    /// What to do about a problem.
    #[serde(rename = "do")]
    pub(super) to_do: Option<Cow<'static, str>>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Nothing is wrong, but worth knowing.
    Note,
    /// larder cannot work, or cannot keep a promise.
    Problem,
}

impl Finding {
    pub(super) fn ok(topic: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { topic, level: Level::Ok, text: text.into(), to_do: None }
    }

    pub(super) fn note(topic: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { topic, level: Level::Note, text: text.into(), to_do: None }
    }

    pub(super) fn problem(
        topic: &'static str,
        text: impl Into<Cow<'static, str>>,
        to_do: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { topic, level: Level::Problem, text: text.into(), to_do: Some(to_do.into()) }
    }

    /// The same, of one of several servers.
    pub(super) fn of(self, server: &impl fmt::Display) -> Self {
        Self { text: format!("{server}: {}", self.text).into(), ..self }
    }
}

/// The column where the text begins.
const INDENT: usize = 24;
/// The column where lines should end.
const WIDTH: usize = 118;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "PROBLEM",
        };
        let indent = " ".repeat(INDENT);
        write!(f, "  {level:<8} {:<12} {}", self.topic, wrapped(&self.text).join(&format!("\n{indent}")))?;
        let Some(to_do) = &self.to_do else { return Ok(()) };
        write!(f, "\n{indent}do: {}", wrapped(to_do).join(&format!("\n{indent}    ")))
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if INDENT + line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_and_lose_nothing() {
        let text = "word ".repeat(60);
        let finding = Finding::problem("topic", text.trim().to_owned(), "barley ".repeat(40).trim().to_owned());
        let shown = finding.to_string();
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH + 4), "{shown}");
        assert_eq!((shown.matches("word").count(), shown.matches("barley").count()), (60, 40));
        assert!(shown.starts_with("  PROBLEM  topic        word word"), "{shown}");
    }
}
