//! A claimed job on its way to its handler.

use std::sync::Arc;

use crate::{Attempt, Claimed, attempt::Signals, finish::Ended, outcome::Outcome};

/// What a claimer hands to apalis: the job, and the attempt that its handler will see.
#[derive(Debug)]
pub(super) struct Assignment {
    pub claimed: Arc<Claimed>,
    pub attempt: Attempt,
    pub signals: Arc<Signals>,
}

/// What is left of an assignment while its handler runs: enough to report its end.
#[derive(Debug)]
pub(super) struct Receipt(Ended);

impl Assignment {
    pub(super) fn receipt(&self, worker: i64) -> Receipt {
        Receipt(Ended {
            id: self.claimed.id,
            fence: self.claimed.fence,
            worker,
            queue: self.claimed.queue.clone(),
            kind: self.claimed.kind.clone(),
            ran: std::time::Duration::ZERO,
            waited: self.claimed.waited,
            // Stands only until the attempt has ended.
            outcome: Outcome::Fenced,
        })
    }
}

impl Receipt {
    pub(super) fn ended(self, outcome: Outcome, ran: std::time::Duration) -> Ended {
        Ended { ran, outcome, ..self.0 }
    }
}
