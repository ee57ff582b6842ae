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
    Chain,
};
use crate::wiring::Control;

pub(super) async fn run(
    context: &Context,
    control: &Control,
    chain: &Chain,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let checkpoints = control.checkpoints()?;
    if dry_run {
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
    let mut door = chain.write(context, control).await?;
    let made = checkpoint::make(&mut door, checkpoints.key()).await?;
    let head = audit::head(&mut door).await?;
    door.close().await?;
    // After the commit: a file never speaks of what was rolled back.
    let file = checkpoint::store(checkpoints.folder(), &head.origin, &made)
        .with_context(|| format!("while writing to {}", checkpoints.folder().display()))?;
    let made = Checkpointed {
        dry_run,
        origin: head.origin,
        size: made.size,
        is_new: made.is_new,
        file: Some(file.display().to_string()),
        key: checkpoints.key().public().text(),
    };
    context.output.answer(&made)?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Checkpointed {
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
