//! The path climbs: its target is tried, and a second person answers for letting automations write there.

use governance::{
    actor,
    path::{self, Certifying, PathState},
};
use jobs::target_capability;
use serde::Serialize;

use super::{ADA, BEN, PATH, STREAM, Stage};
use crate::cli::exit::Failure;

#[derive(Debug, Serialize)]
pub(super) struct Certified {
    /// What the target was seen to do.
    pub(super) capability: &'static str,
    pub(super) asked_by: &'static str,
    pub(super) approved_by: &'static str,
}

impl Stage<'_> {
    pub(super) async fn certification(&self) -> anyhow::Result<Certified> {
        let mut read = self.db.read().await?;
        let state = path::by_name(&mut read, PATH).await?.state;
        read.finish().await?;
        let vault = self.control.vault()?;
        let found = target_capability::find_out(self.db, &vault, self.definition.name(), STREAM).await?;
        if state == PathState::Catalogued {
            let mut write = self.db.write().await?;
            let ada = actor::named(&mut write, ADA).await?;
            path::probed(&mut write, PATH, &ada).await?;
            write.commit().await?;
        }
        if state < PathState::Certified && !self.certify().await? {
            let what = format!("{PATH} is not certified, and its approval was given");
            return Err(Failure::refused(what, "something changed meanwhile: run this again").into());
        }
        Ok(Certified { capability: found.capability.name(), asked_by: ADA, approved_by: BEN })
    }

    /// Asks, and does it once Ben has said yes.
    async fn certify(&self) -> anyhow::Result<bool> {
        for _ in 0..2 {
            let mut write = self.db.write().await?;
            let ada = actor::named(&mut write, ADA).await?;
            let certifying = path::certify(&mut write, PATH, &ada).await?;
            write.commit().await?;
            match certifying {
                Certifying::Certified(_) => return Ok(true),
                Certifying::Asked(asked) => self.approve(asked.id).await?,
            }
        }
        Ok(false)
    }
}
