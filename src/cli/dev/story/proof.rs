//! What an auditor would ask for: the receipt of the change, and the chain up to a signed checkpoint.

use governance::receipt::{self, ReceiptId};
use serde::Serialize;
use verifier::chain::Verdict;

use super::{Stage, changes::Change};
use crate::cli::{
    audit::{Checkpointed, Door, checkpointed, verdict},
    exit::{Exit, Failure},
};

#[derive(Debug, Serialize)]
pub(super) struct Proof {
    /// Receipts that were recomputed up to the chain.
    pub(super) receipts: usize,
    /// Entries of the tenant's chain.
    pub(super) entries: u64,
    /// Those that a signed checkpoint vouches for.
    pub(super) anchored: u64,
    /// What the verifier says.
    pub(super) verdict: &'static str,
    pub(super) checkpoint: Checkpointed,
}

impl Stage<'_> {
    pub(super) async fn proof(&self, changes: &[Change]) -> anyhow::Result<Proof> {
        let mut receipts = 0;
        for id in changes.iter().filter_map(|change| change.receipt) {
            self.prove(id).await?;
            receipts += 1;
        }
        let checkpoint = checkpointed(self.control, Door::Write(self.db.write().await?)).await?;
        match verdict(self.control, Door::Read(self.db.read().await?), &[], None).await? {
            (Verdict::Verified(chain), true) => Ok(Proof {
                receipts,
                entries: chain.size,
                anchored: chain.anchored,
                verdict: "verified",
                checkpoint,
            }),
            (other, _) => {
                let what = format!("the chain of {} is not verified: {other:?}", self.tenant.name);
                let help = format!("`tenure audit verify --tenant {}` says more", self.tenant.name);
                Err(Failure::new(Exit::VerificationFailed, what, help).into())
            }
        }
    }

    async fn prove(&self, id: ReceiptId) -> anyhow::Result<()> {
        let mut read = self.db.read().await?;
        let proved = receipt::prove(&mut read, id).await?;
        read.finish().await?;
        match proved {
            Ok(_) => Ok(()),
            Err(flaw) => {
                let what = format!("the receipt {id} is not what was issued");
                Err(Failure::new(Exit::VerificationFailed, what, "`tenure audit verify` checks the chain")
                    .by(flaw)
                    .into())
            }
        }
    }
}
