//! Until when a certificate is valid: the two times in its DER, and days for people.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 3600;

/// How long before its end a certificate is warned of.
const WARN_BEFORE: Duration = Duration::from_secs(14 * DAY);

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) begins: SystemTime,
    pub(crate) ends: SystemTime,
}

impl Validity {
    /// Reads the times of a certificate. `None`: they have no form that certificates may have.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (whole, _) = element(certificate)?;
        let (mut rest, _) = element(whole)?;
        // The version comes first, and may be missing. Then come the serial number, the algorithm and the issuer.
        if rest.first() == Some(&0xa0) {
            rest = element(rest)?.1;
        }
        for _ in 0..3 {
            rest = element(rest)?.1;
        }
        let (times, _) = element(rest)?;
        let (begins, after) = time(times)?;
        let (ends, _) = time(after)?;
        Some(Self { begins, ends })
    }

    pub(crate) fn is_valid(&self, today: SystemTime) -> bool {
        self.begins <= today && today < self.ends
    }

    /// Whether a person should know that the certificate ends: two weeks before, or in the last third of the life of one that is issued for
    /// a few days and renewed by a program.
    pub(crate) fn ends_soon(&self, today: SystemTime) -> bool {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        today.checked_add(WARN_BEFORE.min(life / 3)).is_none_or(|limit| self.ends < limit)
    }

    /// When it ends, for people: `ends on 2026-12-24, in 9 days`.
    pub(crate) fn end(&self, today: SystemTime) -> String {
        match self.ends.duration_since(today) {
            Ok(left) => {
                let days = left.as_secs() / DAY;
                format!("ends on {}, in {days} day{}", Day(self.ends), if days == 1 { "" } else { "s" })
            }
            Err(_) => format!("has ended on {}", Day(self.ends)),
        }
    }
}

/// A time at the beginning of some DER, and what follows the time.
fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let tag = *der.first()?;
    let (text, rest) = element(der)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        // Two digits of the year: RFC 5280 lets 50 be 1950, and 49 be 2049.
        0x17 => {
            let (year, text) = (number(text.get(..2)?)?, text.get(2..)?);
            (if year >= 50 { 1900 + year } else { 2000 + year }, text)
        }
        0x18 => (number(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    if text.len() != 10 {
        return None;
    }
    let mut parts = (0..5).map(|at| number(text.get(2 * at..2 * at + 2)?));
    let mut part = || parts.next().flatten();
    let (month, day, hour, minute, second) = (part()?, part()?, part()?, part()?, part()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_before(year, month, day)?;
    let seconds = days.checked_mul(DAY)?.checked_add(hour * 3600 + minute * 60 + second)?;
    Some((UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?, rest))
}

fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// How many days lie between 1 January 1970 and this day. `None`: the day is before that.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    // Counted from 1 March of the year 0, so that the leap day is the last day of a year.
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (year * 365 + year / 4 - year / 100 + year / 400 + in_year).checked_sub(719_468)
}

/// A day as people write it: `2026-12-24`.
pub(crate) struct Day(pub(crate) SystemTime);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        // The inverse of `days_before`.
        let days = since.as_secs() / DAY + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        write!(f, "{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
    }
}

/// The content of the first element of some DER, and what follows the element.
pub(crate) fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn the_times_of_a_certificate_are_read() {
        // Up to 2049 a certificate has two digits of the year, and four from then on.
        for (begins, ends, days) in [
            ((2019, 1, 1), (2020, 2, 29), ("2019-01-01", "2020-02-29")),
            ((2024, 2, 29), (2049, 12, 31), ("2024-02-29", "2049-12-31")),
            ((2026, 3, 1), (2050, 1, 1), ("2026-03-01", "2050-01-01")),
            ((1999, 12, 31), (2100, 3, 1), ("1999-12-31", "2100-03-01")),
        ] {
            let mut params = CertificateParams::default();
            params.not_before = date_time_ymd(begins.0, begins.1, begins.2);
            params.not_after = date_time_ymd(ends.0, ends.1, ends.2);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let validity = Validity::of(certificate.der()).unwrap();
            assert_eq!((&*Day(validity.begins).to_string(), &*Day(validity.ends).to_string()), days);
            let unix = date_time_ymd(ends.0, ends.1, ends.2).unix_timestamp().unsigned_abs();
            assert_eq!(validity.ends.duration_since(UNIX_EPOCH).unwrap().as_secs(), unix);
        }
    }

    fn days(count: u32) -> Duration {
        Duration::from_secs(DAY) * count
    }

    #[test]
    fn an_end_is_near_two_weeks_before_or_in_the_last_third_of_a_short_life() {
        let today = UNIX_EPOCH + days(20_000);
        let of = |life, left| Validity { begins: today + days(left) - days(life), ends: today + days(left) };
        for (life, left, near) in [(365, 15, false), (365, 13, true), (6, 3, false), (6, 1, true), (1, 0, true)] {
            assert_eq!(of(life, left).ends_soon(today), near, "{left} of {life} days");
        }
        assert!(of(365, 10).ends_soon(today + days(20)), "one that has ended as well");
    }

    #[test]
    fn people_read_when_a_certificate_ends() {
        let today = UNIX_EPOCH + days(20_000);
        let end = |ends| Validity { begins: today - days(100), ends }.end(today);
        assert_eq!(end(today + days(9)), "ends on 2024-10-13, in 9 days");
        assert_eq!(end(today + days(1)), "ends on 2024-10-05, in 1 day");
        assert_eq!(end(today - days(1)), "has ended on 2024-10-03");
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_times() {
        let certificate = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der();
        for end in 0..der.len() {
            // Must not panic. A shortened certificate is none.
            assert_eq!(Validity::of(der.get(..end).unwrap()), None);
        }
        assert_eq!(Validity::of(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
