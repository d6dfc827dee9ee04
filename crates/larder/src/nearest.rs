//! Finds the known name that a misspelt name probably stands for.

/// The nearest name in `known`, if it is near enough to suggest it. Case, `_` and `-` make no difference.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = fold(word);
    let limit = (word.chars().count() / 3).clamp(1, 2);
    known
        .into_iter()
        .map(|name| (distance(&word, &fold(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The form in which names are compared: without `_` and `-`, in lower case.
pub(crate) fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// How many letters must be added, dropped or changed to turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    // Names are never that long, and the time to compare them grows with the square of their length.
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((y, pair), left) in b.iter().zip(row.windows(2)).zip(1..) {
            let [diagonal, above] = pair else { continue };
            let left = next.get(left - 1).copied().unwrap_or(usize::MAX - 1);
            let change = diagonal + usize::from(x != *y);
            next.push(change.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["operation_timeout", "connect_timeout", "url", "max_age"];
        for (word, found) in [
            ("operation_timout", Some("operation_timeout")),
            ("operationTimeout", Some("operation_timeout")),
            ("OPERATION-TIMEOUT", Some("operation_timeout")),
            ("uri", Some("url")),
            ("maxage", Some("max_age")),
            ("barley", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), found, "{word}");
        }
    }
}
