//! `tenure tenant certificate`: what a deletion has removed, verified and shown.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use database::control::{self, TenantId, TenantName, deletion};
use jobs::tenant_delete::{self, Certificate};
use serde::Serialize;
use verifier::note::PublicKey;

use super::super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, Tone},
};
use crate::wiring::Control;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tenant's name, or its id
    #[arg(value_name = "NAME|ID", required_unless_present = "file")]
    tenant: Option<String>,
    /// A certificate to verify in place of the stored one
    #[arg(long, value_name = "FILE", conflicts_with = "tenant")]
    file: Option<PathBuf>,
    /// The key that must have signed it [default: the configured one's]
    #[arg(long, value_name = "KEY", value_parser = PublicKey::parse)]
    key: Option<PublicKey>,
}

impl Args {
    /// Whether nothing but a file and a key is needed.
    pub(super) fn is_offline(&self) -> bool {
        self.file.is_some() && self.key.is_some()
    }
}

/// Verifies a file by a key that was given.
pub(super) fn offline(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let (Some(file), Some(key)) = (&args.file, &args.key) else { unreachable!("both were given") };
    answer(context, &read(file)?, key)
}

pub(super) async fn run(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let note = match (&args.file, &args.tenant) {
        (Some(file), _) => read(file)?,
        (None, Some(tenant)) => stored(control, tenant).await?,
        (None, None) => unreachable!("the command line asks for one of them"),
    };
    let key = match &args.key {
        Some(key) => key.clone(),
        None => control.checkpoints()?.key().public(),
    };
    answer(context, &note, &key)
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).map_err(|error| {
        let what = format!("the certificate {} cannot be read", file.display());
        Failure::not_found(what, "name a file that a deletion has left beside the tombstone").by(error).into()
    })
}

/// The certificate in the control database; if it knows of none, having been restored, the newest beside the tombstone.
async fn stored(control: &Control, tenant: &str) -> anyhow::Result<String> {
    let mut conn = control.connection().await?;
    let id = match (tenant.parse().map(TenantId), tenant.parse::<TenantName>()) {
        (Ok(id), _) => id,
        (Err(_), Ok(name)) => match control::by_name(&mut conn, &name).await? {
            Some(found) => found.id,
            None => return Err(missing(tenant, "`tenure tenant list` shows all of them")),
        },
        (Err(_), Err(error)) => return Err(error.into()),
    };
    let tombstone = deletion::tombstone(&mut conn, id).await?;
    if let Some(certificate) = tombstone.and_then(|tombstone| tombstone.certificate) {
        return Ok(certificate);
    }
    if let Some(tombstones) = control.tombstones()?
        && let Some(file) = newest(&tombstones.folder_of(id))?
    {
        return read(&file);
    }
    match deletion::newest_of(&mut conn, id).await? {
        Some(deletion) => {
            let what = format!("there is no certificate yet: {}", super::delete::standing(&deletion));
            Err(Failure::refused(what, format!("`tenure tenant show {tenant}` tells how far it has come"))
                .into())
        }
        None => Err(missing(tenant, "nobody has asked for its deletion")),
    }
}

fn missing(tenant: &str, help: &str) -> anyhow::Error {
    Failure::not_found(format!("there is no certificate of a tenant {tenant}"), help).into()
}

/// The names' order is that of their times.
fn newest(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed?,
    };
    let mut files = Vec::new();
    for entry in listed {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("certificate-") && name.ends_with(".note") {
            files.push(path);
        }
    }
    Ok(files.into_iter().max())
}

fn answer(context: &Context, note: &str, key: &PublicKey) -> anyhow::Result<Exit> {
    let certificate = tenant_delete::verify(note, key).map_err(|error| {
        let help =
            "compare it with the copy beside the tombstone, or name the key that signed it with `--key`";
        Failure::new(Exit::VerificationFailed, "the certificate is not to be trusted", help).by(error)
    })?;
    context.output.answer(&Shown { certificate: &certificate, note, key: key.text() })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown<'a> {
    certificate: &'a Certificate,
    /// What was signed, to the letter.
    note: &'a str,
    /// The key whose signature holds.
    key: String,
}

impl Answer for Shown<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for line in self.certificate.words() {
            page.line(line)?;
        }
        page.toned_line(Tone::Good, "verified", format_args!(": signed by {}", self.key).to_string())
    }
}
