//! `tenure tenant verify-bundle`.

use std::{io, path::PathBuf};

use jobs::tenant_bundle::{self, Verified};
use serde::Serialize;
use verifier::note::PublicKey;

use super::super::{
    Context, audit,
    exit::Exit,
    output::{Answer, Page, Tone},
};

pub(super) const EXAMPLES: &str = "Examples:
  tenure tenant verify-bundle acme-0198c5d2-3.zip
  tenure tenant verify-bundle acme-0198c5d2-3.zip --key tenure+1a2b3c4d+AbCd… --checkpoint 0000000000000120.note

Exit codes: 0 everything fits, 7 something does not, and it is named, 9 everything fits, and no checkpoint vouches for the
audit chain. Whether it is the bundle that was handed out is told by its digest: `tenant.exported` in the chain has it.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bundle
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    #[command(flatten)]
    witnesses: Witnesses,
}

/// What vouches for the chain in a bundle, beside the checkpoint that it may hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Witnesses {
    /// A checkpoint that was kept elsewhere; may be given several times
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The key that must have signed every checkpoint
    #[arg(long, value_name = "KEY", value_parser = PublicKey::parse)]
    pub(super) key: Option<PublicKey>,
}

impl Witnesses {
    pub(super) fn checkpoints(&self) -> anyhow::Result<Vec<verifier::note::Checkpoint>> {
        audit::checkpoints(&self.checkpoint, self.key.as_ref())
    }
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let kept = args.witnesses.checkpoints()?;
    let verified = tenant_bundle::verify(&args.bundle, &kept, args.witnesses.key.as_ref())?;
    let exit = if verified.is_anchored { Exit::Ok } else { Exit::Unanchored };
    context.output.answer(&Told::of(&verified))?;
    Ok(exit)
}

#[derive(Serialize)]
struct Told<'a> {
    verdict: &'static str,
    sha256: &'a str,
    tenant: String,
    name: &'a str,
    region: &'a str,
    taken_at: &'a str,
    files: usize,
    rows: u64,
    origin: &'a str,
    size: u64,
    hash: String,
    anchored: u64,
    is_signature_checked: bool,
}

impl<'a> Told<'a> {
    fn of(verified: &'a Verified) -> Self {
        let manifest = &verified.manifest;
        Self {
            verdict: if verified.is_anchored { "verified" } else { "unanchored" },
            sha256: &verified.digest,
            tenant: manifest.tenant.id.to_string(),
            name: &manifest.tenant.name,
            region: &manifest.tenant.region,
            taken_at: &manifest.taken_at,
            files: manifest.files.len(),
            rows: manifest.rows(),
            origin: &verified.chain.origin,
            size: verified.chain.size,
            hash: verifier::hex(&verified.chain.head),
            anchored: verified.chain.anchored,
            is_signature_checked: verified.is_anchored && verified.is_signature_checked,
        }
    }
}

impl Answer for Told<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 8;
        match (self.verdict, self.is_signature_checked) {
            ("verified", true) => page.toned_line(Tone::Good, "verified", "")?,
            ("verified", false) => {
                page.toned_line(
                    Tone::Good,
                    "verified",
                    "; name the key with --key to have its checkpoint's signature checked",
                )?;
            }
            _ => page.toned_line(
                Tone::Doubtful,
                "UNANCHORED",
                ": every file fits, and no checkpoint vouches for the audit chain",
            )?,
        }
        page.entry(WIDTH, "tenant", format_args!("{} ({}), region {}", self.name, self.tenant, self.region))?;
        page.entry(WIDTH, "taken", self.taken_at)?;
        page.entry(WIDTH, "holds", format_args!("{} rows in {} files", self.rows, self.files))?;
        page.entry(
            WIDTH,
            "chain",
            format_args!("{} entries of {}, {} anchored", self.size, self.origin, self.anchored),
        )?;
        page.entry(WIDTH, "sha256", self.sha256)
    }
}
