//! A lower bound of a rate that stays valid however often it is looked at.
//!
//! After `n` runs of which `s` agree, weigh the likelihood of every rate evenly (a uniform prior) against that of one
//! rate p: `s! (n−s)! / (n+1)!  ÷  p^s (1−p)^(n−s)`. If p is the true rate, this ratio is a martingale that starts at 1,
//! and by Ville's inequality it *ever* reaches 1/α with a probability of at most α. So the rates whose ratio is still
//! below 1/α hold the true one at all looks together, with an error of at most α. With a fixed-size interval, looking
//! after each run and stopping when it pleases would make the error as large as one likes.
//!
//! With p in thousandths and α in thousandths everything is an integer, and the comparison is exact.

use num_bigint::BigUint;

/// The rates that are told apart.
const MILLE: i64 = 1_000;

/// The largest rate in thousandths that the evidence excludes from below; 0 if it excludes none.
///
/// `agree` of `runs` agree; the error is `error_per_mille` thousandths.
pub(super) fn per_mille(runs: i64, agree: i64, error_per_mille: i64) -> i64 {
    if runs <= 0 || agree <= 0 {
        return 0;
    }
    let evidence = Evidence::new(runs, agree, error_per_mille);
    // Below the observed rate the ratio falls as p rises: what is excluded is one interval that starts at 0.
    let (mut excluded, mut open) = (0, agree * MILLE / runs + 1);
    while open - excluded > 1 {
        let middle = i64::midpoint(excluded, open);
        if evidence.excludes(middle) { excluded = middle } else { open = middle }
    }
    excluded
}

struct Evidence {
    agree: u32,
    differ: u32,
    /// α · 1000^n / ((n+1) · C(n, s)), as numerator and denominator, both times 1000.
    numerator: BigUint,
    denominator: BigUint,
}

impl Evidence {
    fn new(runs: i64, agree: i64, error_per_mille: i64) -> Self {
        let [all, agree, error] = [runs, agree, error_per_mille]
            .map(|count| u32::try_from(count).expect("counts are bounded by the runs of a snapshot"));
        let numerator = BigUint::from(error) * BigUint::from(1_000_u32).pow(all);
        let denominator = BigUint::from(1_000_u32) * (all + 1) * choose(all, agree);
        Self { agree, differ: all - agree, numerator, denominator }
    }

    /// Whether the ratio at this rate has reached 1/α:
    /// `α · 1000^n ≥ (n+1) · C(n, s) · p^s · (1000−p)^(n−s)`.
    fn excludes(&self, per_mille: i64) -> bool {
        let rate = u32::try_from(per_mille).expect("between 0 and 1000");
        let likelihood = BigUint::from(rate).pow(self.agree) * BigUint::from(1_000 - rate).pow(self.differ);
        self.numerator >= &self.denominator * likelihood
    }
}

/// n over k.
fn choose(n: u32, k: u32) -> BigUint {
    let k = k.min(n - k);
    // Halves first: factors of about the same length multiply fastest.
    product(n - k + 1, n) / product(1, k)
}

/// from · (from + 1) · … · to; 1 if there is nothing between.
fn product(from: u32, to: u32) -> BigUint {
    if from > to {
        return BigUint::from(1_u32);
    }
    if to - from < 16 {
        return (from..=to).map(BigUint::from).product();
    }
    let middle = from.midpoint(to);
    product(from, middle) * product(middle + 1, to)
}
