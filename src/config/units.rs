//! Sizes and times as people write them: `"64 MiB"`, `"30s"`, or plain numbers of bytes and seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

const SIZE_UNITS: [(&str, u64); 8] = [
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("", 1),
];

const TIME_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1_000)];

/// A length of time as people write it: `"30s"`, `"12h"`, `"30d"`, or a number of seconds.
pub(crate) fn time(text: &str) -> Option<Duration> {
    parse(text, &TIME_UNITS).map(Duration::from_millis)
}

/// Splits `"64 MiB"` into 64 and the factor of its unit, and multiplies them.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

struct Quantity {
    units: &'static [(&'static str, u64)],
    /// What a plain number counts, in the base unit.
    plain: u64,
    expecting: &'static str,
}

impl Visitor<'_> for Quantity {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u64, E> {
        value.checked_mul(self.plain).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<u64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<u64, E> {
        parse(value, self.units).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a number of bytes, or a string such as \"64 MiB\"";
        let bytes = deserializer.deserialize_any(Quantity { units: &SIZE_UNITS, plain: 1, expecting })?;
        usize::try_from(bytes)
            .map(Self)
            .map_err(|_| D::Error::custom("more bytes than this machine can address"))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a number of seconds, or a string such as \"500ms\", \"30s\", \"5m\", \"7d\"";
        let ms = deserializer.deserialize_any(Quantity { units: &TIME_UNITS, plain: 1_000, expecting })?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(parse(text, &SIZE_UNITS), expect, "{text}");
        check("64 MiB", Some(64 << 20));
        check("64MiB", Some(64 << 20));
        check("1 gb", Some(1_000_000_000));
        check("17", Some(17));
        check("MiB", None);
        check("-1", None);
        check("1.5 GiB", None);
        check("3 parsecs", None);
        check("18446744073709551615 KiB", None);
    }

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(parse(text, &TIME_UNITS), expect, "{text}");
        check("30s", Some(30_000));
        check("500 ms", Some(500));
        check("5m", Some(300_000));
        check("2", Some(2_000));
        check("", None);
        check("1d", Some(86_400_000));
        check("1w", None);
    }
}
