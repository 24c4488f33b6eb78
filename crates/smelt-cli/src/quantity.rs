//! Numbers as people read them.

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
