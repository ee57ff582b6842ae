//! `tenure path show`.

use std::io;

use database::tenant::TenantDb;
use governance::path::{self, Path, PathState, Standing, Step};
use serde::Serialize;

use super::super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Tone},
};

pub(super) async fn show(context: &Context, db: &TenantDb, name: &str) -> anyhow::Result<Exit> {
    let mut read = db.read().await?;
    let path = path::by_name(&mut read, name).await?;
    let steps = path::steps(&mut read, &path).await?;
    let standing = path::standing(&mut read, &path).await?;
    read.finish().await?;
    context.output.answer(&Shown { next: path.state.next(), path, steps, standing })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown {
    path: Path,
    steps: Vec<Step>,
    next: Option<PathState>,
    #[serde(flatten)]
    standing: Standing,
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Path { name, connector, stream, fields, daily_cap, breaker_limit, .. } = &self.path;
        page.entry(14, "path", name)?;
        page.entry(14, "stream", format_args!("{connector}/{stream}"))?;
        page.entry(14, "fields", fields.join(", "))?;
        page.entry(14, "cap a day", daily_cap)?;
        page.entry(14, "breaker", format_args!("{breaker_limit} mismatches in a row"))?;
        page.entry(14, "target", self.target())?;
        page.entry(14, "baseline", self.baseline())?;
        page.blank()?;
        self.ladder(page)?;
        let Some(next) = self.next else { return Ok(()) };
        page.blank()?;
        page.line(format_args!("missing for {next}:"))?;
        self.standing.missing.iter().try_for_each(|it| page.line(format_args!("  {}: {}", it.what, it.help)))
    }
}

impl Shown {
    fn target(&self) -> String {
        let Some(probe) = &self.standing.probe else { return "never probed".to_owned() };
        let at = probe.probed_at.format("%Y-%m-%d %H:%M UTC");
        let of = if probe.is_current { "" } else { ", as it was defined then" };
        let obstacle = probe.obstacle.as_deref().map(|it| format!("; {it}")).unwrap_or_default();
        format!("{}, probed {at}{of}{obstacle}", probe.capability)
    }

    fn baseline(&self) -> String {
        let it = &self.standing.baseline;
        let Some(policy) = it.policy else { return "no policy".to_owned() };
        format!(
            "version {} on {} of {} records: {} fix, {} review, {} block, {} in order, {} failed",
            policy.version, it.decided, it.records, it.fix, it.review, it.block, it.none, it.failed
        )
    }

    fn ladder(&self, page: &mut Page<'_>) -> io::Result<()> {
        for rung in PathState::ALL {
            let step = self.steps.iter().rev().find(|step| step.to == rung);
            let since = step.and_then(|step| step.at);
            let since =
                since.map(|at| at.format("  since %Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
            let by = step.and_then(|step| step.approval).map(|id| format!(", by approval {id}"));
            if rung <= self.path.state {
                let by = by.unwrap_or_default();
                page.toned_line(Tone::Good, "✓", format_args!(" {rung}{since}{by}"))?;
            } else {
                page.line(format_args!("· {rung}"))?;
            }
        }
        Ok(())
    }
}
