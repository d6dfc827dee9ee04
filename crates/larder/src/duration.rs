//! Durations as people write them: `1h30m`, `100ms`, `1.5s`, `0`.
//!
//! The grammar is Go's, so that Zitadel's files mean the same here, plus `d` for 24 hours. A number without a unit is refused, because it
//! could mean seconds or milliseconds.

use std::time::Duration;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

#[cfg(any(feature = "yaml", feature = "toml"))]
/// A hundred years. A longer duration is a typing error, and would overflow somewhere.
const LONGEST: u128 = 36_500 * 86_400_000_000_000;

#[cfg(any(feature = "yaml", feature = "toml"))]
/// The duration. An error says what is wrong with the text, and continues the sentence after "is `…`".
pub(crate) fn parse(text: &str) -> Result<Duration, &'static str> {
    const NOT_ONE: &str = ", which is no duration";
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(", which is negative");
    }
    if text.is_empty() {
        return Err(", which is empty");
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(", which has no unit");
    }
    let mut total = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = unit.trim_end();
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NOT_ONE)?;
        total = total.saturating_add(nanoseconds(number, *unit).ok_or(NOT_ONE)?);
        rest = after;
    }
    if total > LONGEST {
        return Err(", which is more than a hundred years");
    }
    Ok(Duration::new((total / 1_000_000_000) as u64, (total % 1_000_000_000) as u32))
}

#[cfg(any(feature = "yaml", feature = "toml"))]
/// Rounds a part of a nanosecond up, so that no short duration becomes 0.
fn nanoseconds(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let value = |digits: &str| match digits.trim_start_matches('0') {
        "" => Some(0),
        // No duration has that many digits.
        long if long.len() > 25 => None,
        digits => digits.parse::<u128>().ok(),
    };
    // Digits beyond the fifteenth are far below a nanosecond.
    let kept = fraction.get(..fraction.len().min(15))?;
    let scale = 10_u128.pow(kept.len() as u32);
    Some(value(whole)?.saturating_mul(unit).saturating_add((value(kept)? * unit).div_ceil(scale)))
}

/// The shortest text that [`parse`] reads as the same duration.
pub(crate) fn show(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in [UNITS[6], UNITS[5], UNITS[4], UNITS[3], UNITS[1], UNITS[0]] {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    text
}

#[cfg(all(test, any(feature = "yaml", feature = "toml")))]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("1h30m", 5_400_000_000_000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("2d", 172_800_000_000_000),
            ("1h 5m", 3_900_000_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("0.25ns", 1),
            ("0.0000000000000000000001s", 0),
            ("36500d", LONGEST),
        ] {
            assert_eq!(parse(text).map(|d| d.as_nanos()), Ok(nanoseconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        for (text, reason) in [
            ("60", ", which has no unit"),
            ("1.5", ", which has no unit"),
            ("", ", which is empty"),
            ("-1s", ", which is negative"),
            ("soon", ", which is no duration"),
            ("s", ", which is no duration"),
            ("1h30", ", which is no duration"),
            ("1.2.3s", ", which is no duration"),
            (".s", ", which is no duration"),
            ("1y", ", which is no duration"),
            ("1e3s", ", which is no duration"),
            ("36501d", ", which is more than a hundred years"),
            ("99999999999999999999999999s", ", which is no duration"),
        ] {
            assert_eq!(parse(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for (nanoseconds, text) in [
            (0, "0"),
            (1, "1ns"),
            (500_000, "500us"),
            (1_500_000_000, "1s500ms"),
            (5_400_000_000_000, "1h30m"),
            (90_061_001_001_001, "25h1m1s1ms1us1ns"),
        ] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(show(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
    }
}
