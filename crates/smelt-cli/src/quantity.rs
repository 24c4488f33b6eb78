//! Numbers as people read and write them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A size as it is written in configs and flags: `8GiB`, `500MB`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// What a size looks like, for messages.
const SIZE: &str = "a size such as `8GiB` or `500MB`";

const UNITS: [(&str, u64); 12] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let number = number.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
        match number.zip(unit) {
            Some((number, (_, unit))) if number.is_finite() => Ok(Self((number * *unit as f64) as u64)),
            _ => Err(format!("expected {SIZE}")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadSize)
    }
}

struct ReadSize;

impl Visitor<'_> for ReadSize {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE)
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
        if bytes > 0 {
            Ok(ByteSize(bytes))
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(bytes), &self))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Bytes in binary units: `512 B`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A count in short: `950`, `12.4k`, `124.4M`, `1.5B`.
pub fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}B", number as f64 / 1e9),
    }
}

/// A duration: `7s`, `2m05s`, `1h03m`.
pub fn seconds(duration: f64) -> String {
    let whole = duration.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(read("8GiB"), Ok(8 << 30));
        assert_eq!(read("1.5 gib"), Ok(3 << 29));
        assert_eq!([read("500MB"), read("2g"), read("1024")], [Ok(500_000_000), Ok(2 << 30), Ok(1024)]);
        assert!(["", "GiB", "-1GiB", "8 apples", "0"].iter().all(|text| read(text).is_err()));
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(
            [bytes(512), bytes(1536), bytes(3 << 30), bytes((1 << 20) - 1)],
            ["512 B", "1.5 KiB", "3.0 GiB", "1.0 MiB"]
        );
        assert_eq!(
            [count(950), count(12_400), count(124_440_000), count(1_500_000_000)],
            ["950", "12.4k", "124.4M", "1.5B"]
        );
        assert_eq!([seconds(7.4), seconds(125.0), seconds(3780.0)], ["7s", "2m05s", "1h03m"]);
    }
}
