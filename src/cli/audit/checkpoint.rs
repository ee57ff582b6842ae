//! `tenure audit checkpoint`.

use std::io;

use anyhow::Context as _;
use governance::{audit, checkpoint};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page},
    },
    Chain, Door,
};
use crate::wiring::Control;

pub(super) async fn run(
    context: &Context,
    control: &Control,
    chain: &Chain,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    if dry_run {
        let checkpoints = control.checkpoints()?;
        let mut door = chain.read(context, control).await?;
        let head = audit::head(&mut door).await?;
        door.close().await?;
        let would = Checkpointed {
            dry_run,
            origin: head.origin,
            size: head.size,
            is_new: false,
            file: None,
            key: checkpoints.key().public().text(),
        };
        context.output.answer(&would)?;
        return Ok(Exit::Ok);
    }
    let made = checkpointed(control, chain.write(context, control).await?).await?;
    context.output.answer(&made)?;
    Ok(Exit::Ok)
}

/// Signs what the chain is now, and puts it into the folder.
pub(in crate::cli) async fn checkpointed(control: &Control, mut door: Door) -> anyhow::Result<Checkpointed> {
    let checkpoints = control.checkpoints()?;
    let made = checkpoint::make(&mut door, checkpoints.key()).await?;
    let head = audit::head(&mut door).await?;
    door.close().await?;
    // After the commit: a file never speaks of what was rolled back.
    let file = checkpoint::store(checkpoints.folder(), &head.origin, &made)
        .with_context(|| format!("while writing to {}", checkpoints.folder().display()))?;
    Ok(Checkpointed {
        dry_run: false,
        origin: head.origin,
        size: made.size,
        is_new: made.is_new,
        file: Some(file.display().to_string()),
        key: checkpoints.key().public().text(),
    })
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct Checkpointed {
    dry_run: bool,
    origin: String,
    size: i64,
    is_new: bool,
    file: Option<String>,
    /// What the signature is checked with.
    key: String,
}

impl Answer for Checkpointed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        match &self.file {
            None => page.line(format_args!("would sign {} entries of {}", self.size, self.origin))?,
            Some(file) if self.is_new => {
                page.line(format_args!("signed {} entries of {}: {file}", self.size, self.origin))?;
            }
            Some(file) => page.line(format_args!("nothing was appended since {file}"))?,
        }
        page.line(format_args!("key {}", self.key))
    }
}
