//! `tenure audit verify`: the verifier of the crate, on a file or on the chain as it is.

use std::{
    fs,
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use governance::audit;
use serde::Serialize;
use verifier::{
    chain::{self, Verdict},
    hex,
    note::{Checkpoint, Note, PublicKey},
};

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page, Tone},
    },
    Chain, Door,
};
use crate::wiring::Control;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    chain: Chain,
    /// An export to verify in place of the chain as it is; needs no database
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "platform"])]
    file: Option<PathBuf>,
    /// A checkpoint to hold it against; may be given several times [default: those in the configured folder]
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The key that must have signed every checkpoint [default: the configured one's; for a file none]
    #[arg(long, value_name = "KEY", value_parser = PublicKey::parse)]
    key: Option<PublicKey>,
}

impl Args {
    pub(super) fn is_offline(&self) -> bool {
        self.file.is_some()
    }
}

/// Verifies a file.
pub(super) fn file(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let path = args.file.as_deref().unwrap_or(Path::new("-"));
    let export = fs::File::open(path).map_err(|error| {
        Failure::not_found(
            format!("the export {} cannot be read", path.display()),
            "name a file that `tenure audit export` wrote",
        )
        .by(error)
    })?;
    let checkpoints = read(&args.checkpoint, args.key.as_ref())?;
    let verdict = chain::verify(&mut BufReader::with_capacity(1 << 16, export), &checkpoints)?;
    answer(context, &verdict, args.key.is_some())
}

/// Verifies the chain as it is: exported into a pipe whose other end is the verifier, in constant memory.
pub(super) async fn live(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let door = args.chain.read(context, control).await?;
    let (verdict, is_signature_checked) = verdict(control, door, &args.checkpoint, args.key.as_ref()).await?;
    answer(context, &verdict, is_signature_checked)
}

/// What the verifier says of a chain as it is, and whether a key was there to check signatures with. Checkpoints and key
/// are the configured ones unless others are given.
pub(in crate::cli) async fn verdict(
    control: &Control,
    mut door: Door,
    files: &[PathBuf],
    key: Option<&PublicKey>,
) -> anyhow::Result<(Verdict, bool)> {
    let configured = control.checkpoints().ok();
    let key = key.cloned().or_else(|| configured.as_ref().map(|checkpoints| checkpoints.key().public()));
    let mut files = files.to_vec();
    if files.is_empty()
        && let Some(checkpoints) = &configured
    {
        let origin = audit::head(&mut door).await?.origin;
        files = notes(&checkpoints.folder().join(origin.replace('/', "-")))?;
    }
    let checkpoints = read(&files, key.as_ref())?;
    let (reader, writer) = io::pipe().context("while making a pipe")?;
    let verifying = tokio::task::spawn_blocking(move || {
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        let verdict = chain::verify(&mut reader, &checkpoints);
        // The rest is taken, so that the other end is not cut off.
        let rest = io::copy(&mut reader, &mut io::sink());
        verdict.and_then(|verdict| rest.map(|_| verdict))
    });
    audit::export(&mut door, &mut BufWriter::with_capacity(1 << 16, writer)).await?;
    door.close().await?;
    Ok((verifying.await??, key.is_some()))
}

/// The checkpoints in a folder.
fn notes(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(|| format!("while reading {}", folder.display()))?,
    };
    let files: Result<Vec<_>, _> = listed.map(|file| file.map(|file| file.path())).collect();
    Ok(files?
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "note"))
        .collect())
}

/// The checkpoints in these files, each signed by the key if there is one.
pub(in crate::cli) fn read(files: &[PathBuf], key: Option<&PublicKey>) -> anyhow::Result<Vec<Checkpoint>> {
    let mut checkpoints = Vec::with_capacity(files.len());
    for file in files {
        let text = fs::read_to_string(file).map_err(|error| {
            Failure::not_found(
                format!("the checkpoint {} cannot be read", file.display()),
                "name a file that `tenure audit checkpoint` wrote",
            )
            .by(error)
        })?;
        let checked =
            Note::parse(&text).and_then(|note| key.map_or(Ok(()), |key| note.check(key)).map(|()| note));
        let note = checked.map_err(|error| {
            let what = format!("the checkpoint {} is not to be trusted", file.display());
            Failure::new(Exit::VerificationFailed, what, "compare it with the copy that is kept elsewhere")
                .by(error)
        })?;
        checkpoints.push(note.checkpoint);
    }
    Ok(checkpoints)
}

fn answer(context: &Context, verdict: &Verdict, is_signature_checked: bool) -> anyhow::Result<Exit> {
    let exit = match verdict {
        Verdict::Verified(_) => Exit::Ok,
        Verdict::Unanchored(_) => Exit::Unanchored,
        Verdict::Broken(_) => Exit::VerificationFailed,
    };
    context.output.answer(&Verified::of(verdict, is_signature_checked))?;
    Ok(exit)
}

/// The members that a verdict does not have are absent.
#[derive(Default, Serialize)]
struct Verified {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<Intact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

#[derive(Serialize)]
struct Intact {
    origin: String,
    size: u64,
    hash: String,
    /// Entries that a checkpoint vouches for.
    anchored: u64,
    /// Later ones.
    unanchored: u64,
    is_signature_checked: bool,
}

impl Verified {
    fn of(verdict: &Verdict, is_signature_checked: bool) -> Self {
        let (word, chain) = match verdict {
            Verdict::Verified(chain) => ("verified", chain),
            Verdict::Unanchored(chain) => ("unanchored", chain),
            Verdict::Broken(fault) => {
                return Self {
                    verdict: fault.kind.name(),
                    line: Some(fault.line),
                    seq: fault.seq,
                    what: Some(fault.to_string()),
                    ..Self::default()
                };
            }
        };
        let chain = Intact {
            origin: chain.origin.clone(),
            size: chain.size,
            hash: hex(&chain.head),
            anchored: chain.anchored,
            unanchored: chain.size - chain.anchored,
            is_signature_checked: is_signature_checked && word == "verified",
        };
        Self { verdict: word, chain: Some(chain), ..Self::default() }
    }
}

impl Answer for Verified {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Some(chain) = &self.chain else {
            return page.toned_line(Tone::Bad, "BROKEN ", self.what.as_deref().unwrap_or_default());
        };
        if self.verdict == "verified" {
            let signature = if chain.is_signature_checked { "" } else { ", whose signature was not checked" };
            let rest =
                format_args!(" up to the checkpoint of {} entries{signature}", chain.anchored).to_string();
            page.toned_line(Tone::Good, "verified", rest)?;
        } else {
            let rest = ": the entries fit each other, and no checkpoint vouches for them";
            page.toned_line(Tone::Doubtful, "UNANCHORED", rest)?;
        }
        if chain.unanchored > 0 && chain.anchored > 0 {
            page.line(format_args!("{} later entries are not anchored yet", chain.unanchored))?;
        }
        page.line(format_args!("{} entries of {}, head {}", chain.size, chain.origin, chain.hash))
    }
}
