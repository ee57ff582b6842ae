//! What keeps a run over pages from going on for ever (I8).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Next;
use crate::digest::Digest;

/// Pages in a row that may be empty although there is a next one: filters make them, bugs make them endless.
pub(super) const EMPTY_PAGES_MAX: u64 = 1_000;

/// Notices that tokens go in a circle, in constant space (Brent, "An improved Monte Carlo factorization
/// algorithm", 1980), so that it can be stored with the state: a run that is resumed after every page
/// remembers no list of tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cycle {
    mark: Option<String>,
    steps: u64,
    limit: u64,
}

impl Cycle {
    /// Whether the token is the marked one; moves the mark at every power of two.
    fn meets(&mut self, token: &str) -> bool {
        if self.mark.as_deref() == Some(token) {
            return true;
        }
        self.steps += 1;
        if self.steps > self.limit {
            self.mark = Some(token.to_owned());
            self.limit = (self.limit * 2).max(1);
            self.steps = 0;
        }
        false
    }
}

/// The tokens and pages of one reader.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) cycle: Cycle,
    tokens: HashSet<Digest>,
    empty_pages: u64,
}

/// Why a run must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    /// This token or link was seen before.
    Token(String),
    /// Too many empty pages in a row.
    EmptyPages,
}

impl Guard {
    /// Starts at the page `next` of a run.
    pub(super) fn new(cycle: Cycle, next: &Next) -> Self {
        let tokens = token(next).map(Digest::of).into_iter().collect();
        Self { cycle, tokens, empty_pages: 0 }
    }

    /// Looks at what follows a page that had `records`.
    pub(super) fn follow(&mut self, next: &Next, records: usize) -> Result<(), Loop> {
        self.empty_pages = if records == 0 { self.empty_pages + 1 } else { 0 };
        if self.empty_pages >= EMPTY_PAGES_MAX {
            return Err(Loop::EmptyPages);
        }
        let Some(token) = token(next) else { return Ok(()) };
        let digest = Digest::of(token);
        if !self.tokens.insert(digest) || self.cycle.meets(&digest.to_string()) {
            return Err(Loop::Token(token.chars().take(200).collect()));
        }
        Ok(())
    }
}

fn token(next: &Next) -> Option<&str> {
    match next {
        Next::Token(token) | Next::Link(token) => Some(token),
        Next::First | Next::Page(_) | Next::Offset(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(n: usize) -> Next {
        Next::Token(format!("t{n}"))
    }

    #[test]
    fn i8_a_token_that_comes_again_is_noticed_at_once() {
        let mut guard = Guard::new(Cycle::default(), &Next::First);
        for n in 0..5 {
            assert_eq!(guard.follow(&next(n), 1), Ok(()));
        }
        assert_eq!(guard.follow(&next(2), 1), Err(Loop::Token("t2".into())));
        let mut guard = Guard::new(Cycle::default(), &next(7));
        assert_eq!(guard.follow(&next(7), 1), Err(Loop::Token("t7".into())));
    }

    #[test]
    fn i8_a_circle_is_noticed_by_readers_that_see_one_page_each() {
        for (lead, circle) in [(0, 1), (0, 3), (5, 1), (17, 9)] {
            let mut cycle = Cycle::default();
            let found = (0..10 * (lead + circle + 1)).any(|n| {
                let n = if n < lead { n } else { lead + (n - lead) % circle };
                // A fresh reader: it knows only what was stored.
                let mut guard = Guard::new(cycle.clone(), &Next::First);
                let looped = guard.follow(&next(n), 1).is_err();
                cycle = guard.cycle;
                looped
            });
            assert!(found, "lead {lead}, circle {circle}");
        }
    }

    #[test]
    fn i8_empty_pages_are_legal_and_not_for_ever() {
        let mut guard = Guard::new(Cycle::default(), &Next::First);
        let first = (0..10_000).position(|n| guard.follow(&next(n), 0).is_err());
        assert_eq!(first, Some(usize::try_from(EMPTY_PAGES_MAX).unwrap() - 1));
    }
}
