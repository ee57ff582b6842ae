//! What a rotation would do: the same code, in transactions that Postgres lets write nothing.

use std::time::{Duration, Instant};

use serde::Serialize;
use vault::{
    Census, Vault,
    rotation::{Counts, Fault, Progress, Rotation, Settings},
};

use super::{FAULTS_SHOWN, KeyFault};
use crate::key_scope::KeyScope;

/// What a dry run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Predicted {
    /// What would become of values, or of keys.
    pub counts: Counts,
    /// The first of those that do not open.
    pub faults: Vec<Fault>,
    /// How long it took to read, open and seal. A rotation does that too, and writes besides.
    pub took: Duration,
}

/// Goes through all that a rotation would go through, and says how far it is after each page.
pub async fn predict(
    scope: &KeyScope,
    vault: &Vault,
    settings: Settings,
    mut told: impl FnMut(&Progress),
) -> Result<Predicted, KeyFault> {
    let began = Instant::now();
    let mut rotation = Rotation::dry(vault.clone(), scope.owner(), settings);
    let mut tx = scope.read().await?;
    let mut progress = Progress::of(rotation.total(&mut tx).await?);
    tx.commit().await?;
    let mut faults = Vec::new();
    while !progress.is_done {
        // A transaction for each page: a snapshot that is held for minutes keeps the vacuum from its work.
        let mut tx = scope.read().await?;
        faults.extend(rotation.advance(&mut tx, &mut progress).await?);
        tx.commit().await?;
        told(&progress);
    }
    faults.truncate(usize::try_from(FAULTS_SHOWN).unwrap_or_default());
    Ok(Predicted { counts: progress.counts, faults, took: began.elapsed() })
}

/// How much is under each key.
pub async fn census(scope: &KeyScope) -> Result<Census, KeyFault> {
    let mut tx = scope.read().await?;
    let census = vault::census(&mut tx).await?;
    tx.commit().await?;
    Ok(census)
}
