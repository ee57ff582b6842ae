//! `Retry-After` (RFC 9110, 10.2.3) as servers really send it.

use std::time::{Duration, SystemTime};

/// What a server asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetryAfter {
    /// How long to wait; `None` leaves it to our own backoff.
    pub(super) pause: Option<Duration>,
    /// What was odd about it.
    pub(super) warning: Option<String>,
}

/// Reads the header. `now` is the server's own clock where it says, so that two clocks apart do not matter;
/// no pause is longer than `max`.
pub(super) fn read(value: &str, now: SystemTime, max: Duration) -> RetryAfter {
    let value = value.trim();
    let Some(pause) = seconds(value).or_else(|| until(value, now)) else {
        let shown: String = value.chars().take(40).collect();
        let warning = format!("the source sent Retry-After {shown:?}, which is neither seconds nor a date");
        return RetryAfter { pause: None, warning: Some(warning) };
    };
    if pause > max {
        let warning = format!(
            "the source asked for a pause of {} s; it is capped at {} s (`retry_after_max`)",
            pause.as_secs(),
            max.as_secs()
        );
        return RetryAfter { pause: Some(max), warning: Some(warning) };
    }
    RetryAfter { pause: Some(pause), warning: None }
}

/// Whole seconds; a fraction, which the standard does not know, is rounded up. More digits than fit are a
/// very long time.
fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let up = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    Some(Duration::from_secs(whole.parse::<u64>().unwrap_or(u64::MAX).saturating_add(up)))
}

/// A date in one of the three forms of RFC 9110, 5.6.7; one that has passed asks for no pause.
fn until(value: &str, now: SystemTime) -> Option<Duration> {
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// 37 s before the example of the RFC.
    fn now() -> SystemTime {
        httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap()
    }

    fn pause(value: &str) -> Option<u64> {
        read(value, now(), HOUR).pause.map(|pause| pause.as_secs())
    }

    #[test]
    fn seconds_and_the_three_forms_of_a_date_are_read() {
        assert_eq!(pause("120"), Some(120));
        assert_eq!(pause(" 0 "), Some(0));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(pause("Sunday, 06-Nov-94 08:49:37 GMT"), Some(37));
        assert_eq!(pause("Sun Nov  6 08:49:37 1994"), Some(37));
    }

    #[test]
    fn a_date_in_the_past_asks_for_no_pause() {
        assert_eq!(pause("Sun, 06 Nov 1994 08:48:00 GMT"), Some(0));
        assert_eq!(pause("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn a_fraction_is_rounded_up() {
        assert_eq!(pause("1.5"), Some(2));
        assert_eq!(pause("1.0"), Some(1));
    }

    #[test]
    fn an_absurd_pause_is_capped_and_said_so() {
        for absurd in ["99999999", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            let read = read(absurd, now(), HOUR);
            assert_eq!(read.pause, Some(HOUR), "{absurd}");
            assert!(read.warning.unwrap().contains("3600"), "{absurd}");
        }
    }

    #[test]
    fn negative_and_garbled_values_leave_it_to_our_own_backoff() {
        for garbage in ["-1", "", "soon", "1e3", "1,5", "06 Nov 1994", "+5", "."] {
            let read = read(garbage, now(), HOUR);
            assert_eq!(read.pause, None, "{garbage}");
            assert!(read.warning.is_some(), "{garbage}");
        }
    }
}
