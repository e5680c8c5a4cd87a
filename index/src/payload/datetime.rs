//! Datetimes as the payload writes them: RFC 3339, or a date alone. It knows no field and no schema.

use chrono::{DateTime, NaiveDate};

/// Reads an RFC 3339 timestamp (`2026-01-31T12:00:00Z`) or a date (`2026-01-31`, its midnight in UTC) as microseconds
/// since 1970 UTC. Digits below a microsecond are cut off.
pub fn parse(text: &str) -> Option<i64> {
    parse_timestamp(text).or_else(|| parse_date(text))
}

/// Reads an RFC 3339 timestamp only.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // chrono takes fewer digits and signs too; RFC 3339's full-date is exactly this shape.
    let shaped = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    if !shaped {
        return None;
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_timestamp};

    #[test]
    fn reads_timestamps_with_offsets_and_fractions() {
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(parse("2026-01-31T12:00:00.123456789Z"), Some(1_769_860_800_123_456));
    }

    #[test]
    fn reads_a_date_alone_as_midnight() {
        assert_eq!(parse("1970-01-02"), Some(86_400_000_000));
        assert_eq!(parse_timestamp("1970-01-02"), None);
    }

    #[test]
    fn refuses_what_is_no_datetime() {
        for text in
            ["", "yesterday", "2026-02-30", "2026-1-3", "+026-01-03", "2026-01-31T12:00:00", "2026-01-31 x"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
