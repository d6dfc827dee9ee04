//! Sizes in bytes as people write them: `64 MiB`, `1.5 GB`, `512`.

const UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// The size in bytes. A number without a unit counts bytes. `None`: the text is no size, or the size is too large.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.replace('_', "");
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    if !number.contains('.') {
        return number.parse::<u64>().ok()?.checked_mul(unit);
    }
    // A fraction needs a unit larger than a byte.
    let bytes = number.parse::<f64>().ok()? * unit as f64;
    (unit > 1 && (1.0..9e15).contains(&bytes)).then_some(bytes as u64)
}

/// A text that [`parse`] reads as the same size.
pub(super) fn show(bytes: u64) -> String {
    for (name, unit) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1_u64 << 10)] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    if bytes == 0 { "0".to_owned() } else { format!("{bytes} B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("1_000", Some(1000)),
            ("512 B", Some(512)),
            ("64 MiB", Some(64 << 20)),
            ("64mib", Some(64 << 20)),
            ("1 kB", Some(1000)),
            ("1.5 GiB", Some(3 << 29)),
            ("1 TB", Some(1_000_000_000_000)),
            ("1.5", None),
            ("0.1 B", None),
            ("-1 B", None),
            ("", None),
            ("MiB", None),
            ("1 MiBs", None),
            ("99999999999 TiB", None),
            ("1..5 MiB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for (bytes, text) in [
            (0, "0"),
            (1000, "1000 B"),
            (1 << 20, "1 MiB"),
            (3 << 29, "1536 MiB"),
            (u64::MAX, "18446744073709551615 B"),
        ] {
            assert_eq!(show(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }
}
