//! The story that `tenure dev` plays on its sample: from records that were read to one change that is proved, one that
//! gives way to a person and one that was a lie.
//!
//! Two people act in it. Ada judges cases and asks; Ben judges some of them again and approves. They know what the
//! sample's desk knows, which no rule can read. What the rules say, how far they agree with people, what the gate answers
//! and what became of each change is found out as it would be anywhere. What is there is kept: a second run of the
//! command tells of the same changes.

mod certification;
mod changes;
mod govern;
mod promotion;
mod proof;
mod tell;
mod words;

use connectors::Definition;
use database::{
    control::Tenant,
    sample,
    tenant::{TenantDb, Write},
};
use governance::{
    actor::{self, ActorId},
    approval::{self, ApprovalId},
};
use jobs::nightly_baseline::Report;
use queue::{JobId, JobRecord, NewJob};
use serde::Serialize;
use sqlx::PgConnection;

use self::changes::Change;
use super::super::{Context, baseline, exit::Failure, follow, tenant};
use crate::wiring::Control;

/// Who judges, and who asks.
const ADA: &str = "ada";
/// Who judges again, and who approves.
const BEN: &str = "ben";

/// The path, which the policy beside this file names too.
const PATH: &str = "crm-phones";
const CANDIDATE: &str = "crm-phones-1";
/// The stream and the field that it governs.
const STREAM: &str = "contacts";
const FIELD: &str = "phone";

/// What happened, in the order of the telling.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    governed: govern::Governed,
    /// What the rules would have done, before anybody acted.
    baseline: Report,
    words: words::Words,
    certified: certification::Certified,
    promotion: promotion::Promoted,
    changes: Vec<changes::Change>,
    proof: proof::Proof,
}

impl Story {
    /// Whether each change ended as the sample makes it end.
    pub(super) fn is_as_told(&self) -> bool {
        self.changes.iter().all(Change::is_as_told)
    }
}

/// Where it plays.
pub(super) struct Stage<'a> {
    pub(super) context: &'a Context,
    pub(super) control: &'a Control,
    pub(super) tenant: &'a Tenant,
    pub(super) db: &'a TenantDb,
    pub(super) definition: &'a Definition,
}

impl Stage<'_> {
    /// Plays it to the end.
    pub(super) async fn play(&self) -> anyhow::Result<Story> {
        let governed = self.govern().await?;
        let baseline = self.baseline().await?;
        let words = self.words().await?;
        let certified = self.certification().await?;
        let promotion = self.promotion().await?;
        let changes = self.changes().await?;
        let proof = self.proof(&changes).await?;
        Ok(Story { governed, baseline, words, certified, promotion, changes, proof })
    }

    /// A night of the nightly baseline, now.
    async fn baseline(&self) -> anyhow::Result<Report> {
        let job = baseline::enqueue(self.control, self.tenant).await?;
        baseline::follow(self.context, self.control, self.tenant, job, None).await
    }

    async fn person(&self, write: &mut Write, name: &str) -> anyhow::Result<ActorId> {
        Ok(actor::named(write, name).await?.id)
    }

    /// Ben reads the plan and says yes to its digest.
    async fn approve(&self, id: ApprovalId) -> anyhow::Result<()> {
        let mut write = self.db.write().await?;
        let ben = self.person(&mut write, BEN).await?;
        let seen = approval::view(&mut write, id, ben).await?;
        let seen =
            seen.ok_or_else(|| Failure::not_found(format!("there is no approval {id}"), "run this again"))?;
        approval::approve(&mut write, id, &seen.digest, ben, None).await?;
        Ok(write.commit().await?)
    }

    /// Enqueues a job and follows it to its end.
    async fn run(&self, job: NewJob) -> anyhow::Result<JobRecord> {
        let id = self.control.operator().enqueue(&[job]).await?[0].id;
        self.followed(id).await
    }

    async fn followed(&self, id: JobId) -> anyhow::Result<JobRecord> {
        let ended = follow::jobs(self.context, self.control, &[id], None).await?;
        let job = ended.into_iter().next().ok_or_else(|| follow::missing(id))?;
        tenant::must_have_succeeded(self.control, &job, &format!("`{}` did not do its work", job.kind))
            .await?;
        Ok(job)
    }

    /// A person's way into the CRM, beside Tenure.
    async fn crm(&self) -> anyhow::Result<PgConnection> {
        let options = self.control.direct().clone().database(sample::DATABASE);
        Ok(database::connect::connect(&options).await?)
    }
}
