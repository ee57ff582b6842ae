//! The candidate is tried on what people judged, and moves one phase up when the gate and a second person let it.

use governance::{
    approval::ApprovalId,
    candidate::{self, Approvals, Phase, Promotion, SnapshotRecord},
    promotion::{Answer, Evaluation},
};
use jobs::{promotion_evaluation, shadow_run};
use serde::Serialize;

use super::{ADA, BEN, CANDIDATE, Stage};
use crate::cli::exit::Failure;

#[derive(Debug, Serialize)]
pub(super) struct Promoted {
    /// What the gate said of the frozen evidence.
    pub(super) evaluation: Evaluation,
    pub(super) from: Phase,
    pub(super) to: Phase,
    pub(super) asked_by: &'static str,
    pub(super) approved_by: &'static str,
    /// The approval.
    pub(super) approval: String,
}

impl Stage<'_> {
    pub(super) async fn promotion(&self) -> anyhow::Result<Promoted> {
        if let Some(before) = self.promoted().await? {
            return Ok(before);
        }
        self.run(shadow_run::job(self.tenant, CANDIDATE)?).await?;
        self.run(promotion_evaluation::job(self.tenant, CANDIDATE)?).await?;
        let record = self.evidence().await?;
        if record.evaluation.answer != Answer::Eligible {
            let what = format!("the sample's candidate is {}", record.evaluation.answer.name());
            let help = format!("`tenure candidate show {CANDIDATE} --tenant {}` tells why", self.tenant.name);
            return Err(Failure::refused(what, help).into());
        }
        let approval = self.ask(&record).await?;
        self.approve(approval).await?;
        let mut write = self.db.write().await?;
        let ada = self.person(&mut write, ADA).await?;
        candidate::promote(&mut write, CANDIDATE, record.digest, ada, &Approvals(CANDIDATE)).await?;
        write.commit().await?;
        Ok(Promoted::of(record, approval.to_string()))
    }

    /// How it moved up in an earlier run.
    async fn promoted(&self) -> anyhow::Result<Option<Promoted>> {
        let mut read = self.db.read().await?;
        let found = candidate::by_name(&mut read, CANDIDATE).await?;
        let moves = candidate::moves(&mut read, &found, i64::MAX).await?;
        let up = moves.into_iter().find_map(|one| Some((one.snapshot?, one.approval?)));
        let promoted = match up {
            Some((digest, approval)) => {
                let record = candidate::snapshot(&mut read, &found, Some(digest)).await?;
                record.map(|record| Promoted::of(record, approval))
            }
            None => None,
        };
        read.finish().await?;
        Ok(promoted)
    }

    /// What was frozen last.
    async fn evidence(&self) -> anyhow::Result<SnapshotRecord> {
        let mut read = self.db.read().await?;
        let found = candidate::by_name(&mut read, CANDIDATE).await?;
        let record = candidate::snapshot(&mut read, &found, None).await?;
        read.finish().await?;
        let what = "the evaluation has ended and nothing is frozen";
        record.ok_or_else(|| Failure::refused(what, "run this again").into())
    }

    async fn ask(&self, record: &SnapshotRecord) -> anyhow::Result<ApprovalId> {
        let mut write = self.db.write().await?;
        let ada = self.person(&mut write, ADA).await?;
        let found = candidate::by_name(&mut write, CANDIDATE).await?;
        let promotion = Promotion::of(found.digest, record);
        let requested = Approvals(CANDIDATE).ask(&mut write, &promotion, ada).await?;
        write.commit().await?;
        Ok(requested.id)
    }
}

impl Promoted {
    fn of(record: SnapshotRecord, approval: String) -> Self {
        let SnapshotRecord { evaluation, from, to, .. } = record;
        Self { evaluation, from, to, asked_by: ADA, approved_by: BEN, approval }
    }
}
