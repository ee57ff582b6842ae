//! Durations as people write them.

use std::time::Duration;

/// A whole number and a unit, such as `30s` or `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim_start() {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// The same for a flag of the command line.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "write a whole number and ms, s, m, h or d, such as 30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("2 h"), Some(Duration::from_hours(2)));
        assert_eq!(duration("1d"), Some(Duration::from_hours(24)));
        for wrong in ["", "s", "5", "1.5s", "-1s", "5 years", "99999999999999999999s", "999999999999999999d"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
