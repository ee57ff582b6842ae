//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter: a uniform draw between zero and `base · 2^failures`, never above `cap`.
///
/// Full jitter spreads retries best when many jobs fail at once (Brooker, "Exponential Backoff And Jitter", 2015). The
/// cap is applied before the draw, so that it is a true bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The widest pause after the first failure.
    pub base: Duration,
    /// The widest pause ever.
    pub cap: Duration,
}

impl Backoff {
    /// 10 s, 20 s, 40 s … at most an hour.
    pub const DEFAULT: Self = Self { base: Duration::from_secs(10), cap: Duration::from_hours(1) };

    /// The pause after this many failures (the first is 1), for a draw in `0.0..1.0`.
    #[must_use]
    pub fn delay(self, failures: u16, draw: f64) -> Duration {
        let doublings = u32::from(failures.saturating_sub(1)).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap).mul_f64(draw.clamp(0.0, 1.0))
    }

    pub(crate) fn jittered(self, failures: u16) -> Duration {
        self.delay(failures, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn q5_a_delay_stays_between_zero_and_the_doubled_base_and_the_cap(failures in 1u16..200, draw in 0.0f64..1.0) {
            let backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_mins(1) };
            let widest = 2f64 * 2f64.powi(i32::from(failures) - 1);
            let delay = backoff.delay(failures, draw).as_secs_f64();
            prop_assert!(delay <= widest.min(60.0));
            prop_assert!((delay - widest.min(60.0) * draw).abs() < 1e-6);
        }
    }

    #[test]
    fn q5_the_widest_delay_doubles_until_the_cap() {
        let widest = |failures| Backoff::DEFAULT.delay(failures, 1.0).as_secs();
        assert_eq!([1, 2, 3, 10, 60].map(widest), [10, 20, 40, 3600, 3600]);
    }
}
