//! Durations and sizes as people write them: `10m`, `1.5h`, `32MiB`.

use std::time::Duration;

/// Ten years: longer is a slip, and adding it to a date stays in range.
const DURATION_SECS_MAX: f64 = 315_360_000.0;

/// A number with `ms`, `s`, `m`, `h` or `d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let secs = number
        * match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
    (secs <= DURATION_SECS_MAX).then(|| Duration::from_secs_f64(secs))
}

/// A whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (or the decimal `kB`, `MB`, `GB`, `TB`).
pub(super) fn bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().ok()?;
    let unit: u64 = match text[at..].trim() {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    Some((text[..at].parse().ok()?, text[at..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_written() {
        assert_eq!(duration("10m"), Some(Duration::from_mins(10)));
        assert_eq!(duration("1.5 h"), Some(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(bytes("32MiB"), Some(32 << 20));
        assert_eq!(bytes("5 MB"), Some(5_000_000));
    }

    #[test]
    fn what_has_no_unit_or_no_sense_is_refused() {
        for text in ["", "10", "-1s", "1w", "1e9s", ".s", "99999999999d", "s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["", "10", "-1B", "1.5MiB", "1 mib", "99999999999TiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
