//! `tenure audit export`.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use governance::{
    audit,
    reading::{self, Reading},
};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page},
    },
    Chain,
};
use crate::{operator, wiring::Control};

/// With a file the answer says what it holds; otherwise the lines are the answer.
pub(super) async fn run(
    context: &Context,
    control: &Control,
    chain: &Chain,
    out: Option<&Path>,
) -> anyhow::Result<Exit> {
    let mut door = chain.read(context, control).await?;
    on_record(context, control, chain, &audit::head(&mut door).await?).await?;
    let Some(path) = out else {
        // Not locked: a lock is no thing to keep across a wait.
        let mut stdout = BufWriter::with_capacity(1 << 16, io::stdout());
        audit::export(&mut door, &mut stdout).await?;
        door.close().await?;
        return Ok(Exit::Ok);
    };
    let file = fs::File::create(path).with_context(|| format!("while writing {}", path.display()))?;
    let mut file = BufWriter::with_capacity(1 << 16, file);
    let head = audit::export(&mut door, &mut file).await?;
    door.close().await?;
    file.flush()?;
    file.get_ref().sync_all()?;
    let file = path.display().to_string();
    let exported = Exported { file, origin: head.origin, size: head.size, hash: head.hash.to_string() };
    context.output.answer(&exported)?;
    Ok(Exit::Ok)
}

/// That the chain was taken, up to here, before it is.
async fn on_record(
    context: &Context,
    control: &Control,
    chain: &Chain,
    head: &audit::Head,
) -> anyhow::Result<()> {
    let mut door = chain.write(context, control).await?;
    let by = operator::named(&mut door, context.actor()).await?.id;
    reading::record(&mut door, &Reading::Chain(head), by).await?;
    door.close().await
}

#[derive(Serialize)]
struct Exported {
    file: String,
    origin: String,
    size: i64,
    hash: String,
}

impl Answer for Exported {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!("{} entries of {} are in {}", self.size, self.origin, self.file))?;
        page.line(format_args!("head {}", self.hash))
    }
}
