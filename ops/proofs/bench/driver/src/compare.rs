//! All systems beside each other: modes, rounds, and who begins a round.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::{
    figure::{Figure, Figures, Spread},
    server::Server,
    system::System,
    trial::{Mode, Sizes, Trial},
};

/// What became of a system in a mode.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Each figure over the rounds.
    pub(crate) figures: BTreeMap<Figure, Spread>,
    /// Rounds that broke off, with the reason.
    pub(crate) errors: Vec<String>,
}

/// Per mode and system.
pub(crate) type Comparison = BTreeMap<Mode, BTreeMap<System, Measured>>;

/// Runs every mode and round. Systems alternate, and every round begins with another one, so that a machine that
/// slows down slows all of them.
pub(crate) async fn compare(
    server: &Server,
    systems: &[System],
    modes: &[Mode],
    rounds: usize,
    sizes: &Sizes,
) -> Result<Comparison> {
    let mut comparison = Comparison::new();
    for &mode in modes {
        let mut taken: BTreeMap<System, Vec<Figures>> = BTreeMap::new();
        let mut errors: BTreeMap<System, Vec<String>> = BTreeMap::new();
        for round in 0..rounds {
            for index in 0..systems.len() {
                let system = systems[(index + round) % systems.len()];
                eprintln!("{}, round {} of {rounds}: {}", mode.name(), round + 1, system.title());
                match trial(server, system, mode, sizes).await? {
                    Ok(figures) => {
                        say(&figures);
                        taken.entry(system).or_default().push(figures);
                    }
                    Err(error) => {
                        eprintln!("  {error:#}");
                        errors.entry(system).or_default().push(format!("{error:#}"));
                    }
                }
            }
        }
        let measured = systems.iter().map(|system| {
            let figures = spreads(taken.get(system).map_or(&[], Vec::as_slice));
            (*system, Measured { figures, errors: errors.remove(system).unwrap_or_default() })
        });
        comparison.insert(mode, measured.collect());
    }
    Ok(comparison)
}

/// The outer error is ours, the inner one the system's: the comparison goes on without it.
async fn trial(server: &Server, system: System, mode: Mode, sizes: &Sizes) -> Result<Result<Figures>> {
    let mut trial = match Trial::prepare(server, system, sizes).await {
        Ok(trial) => trial,
        Err(error) => return Ok(Err(error)),
    };
    let figures = trial.run(mode).await;
    trial.clean_up().await?;
    Ok(figures)
}

/// One line of progress.
pub(crate) fn say(figures: &Figures) {
    let figure =
        |figure: Figure| figures.get(&figure).map_or("–".to_owned(), |&value| figure.format(value));
    eprintln!(
        "  enqueue {}/s, claim to finish {}/s, lone p50 {} ms",
        figure(Figure::EnqueuePerSec),
        figure(Figure::ClaimToFinishPerSec),
        figure(Figure::LoneP50Ms)
    );
}

/// Each figure over the rounds.
pub(crate) fn spreads(rounds: &[Figures]) -> BTreeMap<Figure, Spread> {
    let of = |figure: Figure| Spread::of(rounds.iter().filter_map(|r| r.get(&figure).copied()).collect());
    Figure::ALL.into_iter().filter_map(|figure| Some((figure, of(figure)?))).collect()
}
