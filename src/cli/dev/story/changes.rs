//! Three changes that a person accepted: one is done and proved, one gives way to somebody else's edit, and one is said
//! to be done and is not.

use database::sample;
use governance::{
    approval::ApprovalId,
    receipt::ReceiptId,
    review::{self, State as Standing, Word},
    wish::{self, WishId},
    writeback::{Filter, State, Values, Writeback, WritebackId},
};
use jobs::{writeback, writeback_plan};
use queue::{JobId, RetryRefused};
use serde::Serialize;

use super::{ADA, PATH, Stage};
use crate::cli::exit::Failure;

/// The contact whose number is put right.
const PLAIN: i64 = 4720;
/// The contact that a person edits while the change waits for its approval.
const EDITED: i64 = 4816;
/// The contact that belongs to a system which answers yes and keeps what it has: `sample.sql` makes it so.
const LIED_ABOUT: i64 = 4912;
/// More than the sample has.
const LISTED_MAX: i64 = 1_000;
/// What the person writes.
const EDIT: &str = "+4940987654";

/// Whether a change of this record is told of here, so that nobody judges it before.
pub(super) fn is_told_of(key: &str) -> bool {
    [PLAIN, EDITED, LIED_ABOUT].iter().any(|id| id.to_string() == key)
}

/// One of them.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) writeback: WritebackId,
    pub(super) key: String,
    /// What the CRM showed when it was planned.
    pub(super) before: Option<Values>,
    pub(super) desired: Values,
    /// What a person wrote meanwhile.
    pub(super) edit: Option<&'static str>,
    pub(super) state: State,
    /// What the CRM showed at the end, by a read of its own.
    pub(super) observed: Option<Values>,
    pub(super) approval: Option<ApprovalId>,
    pub(super) receipt: Option<ReceiptId>,
}

impl Stage<'_> {
    pub(super) async fn changes(&self) -> anyhow::Result<Vec<Change>> {
        let mut changes = Vec::new();
        for contact in [PLAIN, EDITED, LIED_ABOUT] {
            changes.push(self.change(contact).await?);
        }
        Ok(changes)
    }

    async fn change(&self, contact: i64) -> anyhow::Result<Change> {
        let edit = (contact == EDITED).then_some(EDIT);
        let planned = match self.planned(contact).await? {
            Some(known) => known,
            None => self.accept(contact).await?,
        };
        if planned.state.is_final() {
            return Ok(Change::of(planned, edit));
        }
        if let Some(number) = edit {
            sample::edit(&mut self.crm().await?, contact, number).await?;
        }
        if let (State::Planned, Some(approval)) = (planned.state, planned.approval) {
            self.approve(ApprovalId(approval)).await?;
        }
        let job = writeback::job(self.tenant, planned.id)?;
        let job = self.control.operator().enqueue(&[job]).await?[0].id;
        self.hasten(job).await?;
        self.followed(job).await?;
        Ok(Change::of(writeback::show(self.db, planned.id).await?.0, edit))
    }

    /// A job that waits for a person looks again after some seconds; here nobody wants to wait for that.
    async fn hasten(&self, job: JobId) -> anyhow::Result<()> {
        match self.control.operator().retry(job).await {
            // It looks already, or has ended.
            Err(error) if matches!(error.downcast_ref(), Some(RetryRefused::State { .. })) => Ok(()),
            hastened => hastened,
        }
    }

    /// The change as an earlier run left it.
    async fn planned(&self, contact: i64) -> anyhow::Result<Option<Writeback>> {
        let filter = Filter { path: Some(PATH.to_owned()), ..Filter::default() };
        let all = writeback::list(self.db, &filter, LISTED_MAX, ADA).await?;
        Ok(all.into_iter().find(|one| one.plan.key == contact.to_string()))
    }

    /// Ada accepts what the rules would do; a job reads the CRM and plans the change.
    async fn accept(&self, contact: i64) -> anyhow::Result<Writeback> {
        let mut write = self.db.write().await?;
        let ada = self.person(&mut write, ADA).await?;
        let filter = review::Filter { path: Some(PATH), state: Some(Standing::Open), assignee: None };
        let cases = review::list(&mut write, filter, LISTED_MAX, ada).await?;
        let case = cases.into_iter().find(|case| case.key == contact.to_string());
        let case = case.ok_or_else(|| {
            let what = format!("there is no open case for the contact {contact}");
            Failure::refused(what, "remove the data folder, which holds only sample data, and run this again")
        })?;
        review::decide(&mut write, case.id, case.version, Word::Accept, "as the desk knows it", ada).await?;
        write.commit().await?;
        let id = WishId(case.decision);
        self.run(writeback_plan::job(self.tenant, id)?).await?;
        let mut read = self.db.read().await?;
        let wish = wish::find(&mut read, id).await?;
        read.finish().await?;
        if let Some(planned) = wish.as_ref().and_then(|wish| wish.writeback) {
            return Ok(writeback::show(self.db, planned).await?.0);
        }
        let why = wish.and_then(|wish| wish.detail).unwrap_or_else(|| "nothing is wanted of it".to_owned());
        let what = format!("nothing is planned for the contact {contact}: {why}");
        Err(Failure::refused(what, "`tenure review list --all` shows the case").into())
    }
}

impl Change {
    /// Whether it ended as the sample makes it end.
    pub(super) fn is_as_told(&self) -> bool {
        let told = [(PLAIN, State::Verified), (EDITED, State::Conflict), (LIED_ABOUT, State::Mismatch)];
        told.iter().any(|(contact, state)| contact.to_string() == self.key && *state == self.state)
    }

    fn of(row: Writeback, edit: Option<&'static str>) -> Self {
        Self {
            writeback: row.id,
            key: row.plan.key,
            before: row.plan.before,
            desired: row.plan.desired,
            edit,
            state: row.state,
            observed: row.observed,
            approval: row.approval.map(ApprovalId),
            receipt: row.receipt,
        }
    }
}
