//! The erasure of a name from the control database.

use governance::actor::{self, ActorError, ActorId};

use super::{Operator, named, signature};

impl Operator<'_> {
    /// Erases the name from the platform's actors, and from what the queue has noted of its owner's deeds. A dry run
    /// does it and takes it back.
    pub(crate) async fn erase(
        &self,
        name: &str,
        dry_run: bool,
    ) -> anyhow::Result<Result<ActorId, ActorError>> {
        let mut intervention = self.intervene().await?;
        let by = named(intervention.connection(), self.name).await?.id;
        intervention.forget(&signature(name), &signature("somebody")).await?;
        let erased = match actor::erase(intervention.connection(), name, by).await {
            Ok(id) => id,
            refused => return Ok(refused),
        };
        if !dry_run {
            intervention.commit().await?;
        }
        Ok(Ok(erased))
    }
}
