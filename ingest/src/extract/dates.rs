//! Dates as documents write them, as RFC 3339 in UTC. What is no date is none: a wrong one would mislead every filter.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// Years in which documents were written; others are mistakes.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2200;

/// Seconds since 1970.
pub(super) fn from_timestamp(seconds: i64) -> Option<String> {
    written(DateTime::from_timestamp(seconds, 0)?)
}

/// Ticks of 100 ns since 1601, as Windows counts.
pub(super) fn from_filetime(ticks: u64) -> Option<String> {
    let seconds = i64::try_from(ticks / 10_000_000).ok()?.checked_sub(11_644_473_600)?;
    from_timestamp(seconds)
}

/// A date in words of ISO 8601 (`2024-05-01T10:00:00Z`, `2024-05-01`, `2024-05`, `2024`), or of PDF
/// (`D:20240501100000+02'00'`). Without an offset it is taken as UTC.
pub(super) fn parse(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(pdf) = text.strip_prefix("D:") {
        return from_pdf(pdf);
    }
    if let Ok(date) = DateTime::parse_from_rfc3339(text) {
        return written(date.with_timezone(&Utc));
    }
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return written(date.with_timezone(&Utc));
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    if let Some(date) = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()) {
        return written(date.and_utc());
    }
    let day = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    let date = NaiveDate::parse_from_str(&day, "%Y-%m-%d").ok()?;
    written(date.and_hms_opt(0, 0, 0)?.and_utc())
}

/// `YYYYMMDDHHmmSSOHH'mm'`, of which only the year must be there.
fn from_pdf(text: &str) -> Option<String> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).take(14).collect();
    let rest = text.get(digits.len()..)?;
    let defaults = "00000101000000";
    let full = format!("{digits}{}", defaults.get(digits.len()..)?);
    let date = NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%S").ok()?;
    let numbers: Vec<i64> =
        rest.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    let minutes = numbers.first().unwrap_or(&0) * 60 + numbers.get(1).unwrap_or(&0);
    let offset = match rest.chars().next() {
        Some('+') => minutes,
        Some('-') => -minutes,
        _ => 0,
    };
    written(date.and_utc().checked_sub_signed(chrono::TimeDelta::try_minutes(offset)?)?)
}

fn written(date: DateTime<Utc>) -> Option<String> {
    use chrono::Datelike;
    YEARS.contains(&date.year()).then(|| date.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn dates_of_documents() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(parse(text).as_deref(), expect, "{text}");
        check("2024-05-01T10:00:00Z", Some("2024-05-01T10:00:00Z"));
        check("2024-05-01T10:00:00+02:00", Some("2024-05-01T08:00:00Z"));
        check("2024-05-01T10:00:00.123456789", Some("2024-05-01T10:00:00Z"));
        check("2024-05-01", Some("2024-05-01T00:00:00Z"));
        check("2024-05", Some("2024-05-01T00:00:00Z"));
        check("1998", Some("1998-01-01T00:00:00Z"));
        check("D:20240501100000+02'00'", Some("2024-05-01T08:00:00Z"));
        check("D:20240501100000-05'30", Some("2024-05-01T15:30:00Z"));
        check("D:2024", Some("2024-01-01T00:00:00Z"));
        check("Fri, 16 Dec 2022 17:04:16 -0500", Some("2022-12-16T22:04:16Z"));
        for nonsense in [
            "",
            "soon",
            "0000-00-00",
            "D:",
            "D:99999999",
            "2024-13-01",
            "12",
            "0101-01-01",
            "D:20240501+99999999999999999",
        ] {
            check(nonsense, None);
        }
        assert_eq!(from_filetime(133_000_000_000_000_000).as_deref(), Some("2022-06-18T04:26:40Z"));
        assert_eq!(from_filetime(u64::MAX), None);
    }
}
