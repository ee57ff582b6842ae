//! `tenure key census|rotate|retire|set|keyring`.

mod rotate;
mod view;

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Subcommand;
use jobs::key_rotation::{self, Asked, Changed, Errand};
use uuid::Uuid;
use vault::{Census, DekId, KekId, KeyReference, Keyring, Vendor};

use self::view::{Censused, Done, Waits};
use super::{
    Context,
    exit::{Exit, Failure},
    output::with_spinner,
    place::Place,
};
use crate::wiring::Control;

const EXAMPLES: &str = "Examples:
  tenure key census --tenant acme
  tenure key rotate --tenant acme --dry-run          what would be done, how long it would take
  tenure key rotate --tenant acme                    asks for an approval; typed again once it is given, rotates
  tenure key rotate --reseal --older-than 0s --tenant acme      every value under a new key, whatever its age
  tenure key retire 0b7c2f9e-… --tenant acme

A key of a key service wraps the keys of tables, and these seal values. `rotate` puts the keys of tables under a new
version of the key that wraps them; with --reseal it puts values under new keys.";

const SET_EXAMPLES: &str = "Examples:
  tenure key set --vendor aws --region eu-central-1 --key-id arn:aws:kms:… --tenant acme
  tenure key set --vendor local --key-id 5f1c…/9d02… --tenant acme      back to a key of the keyring
  tenure key rotate --tenant acme                    moves what the key before it still wraps";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Which keys there are, and how much is under each
    Census {
        #[command(flatten)]
        place: Place,
    },
    /// Put keys under a new version of the key that wraps them, or values under new keys
    #[command(after_help = EXAMPLES)]
    Rotate(rotate::Args),
    /// Take a key out of use for good; refused while anything, or a backup, needs it
    Retire {
        /// Its number, as the census shows it
        id: Uuid,
        #[command(flatten)]
        place: Place,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let another key of a key service wrap new keys
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Whose service: local or aws
        #[arg(long, value_parser = Vendor::from_str)]
        vendor: Vendor,
        /// Where the vendor keeps it
        #[arg(long, default_value = "")]
        region: String,
        /// What the vendor calls it
        #[arg(long, value_name = "ID")]
        key_id: String,
        #[command(flatten)]
        place: Place,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Make an empty keyring in a new file of mode 0600
    Keyring {
        /// The file
        file: PathBuf,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Census { place } => census(&place, context).await,
        Command::Rotate(args) => rotate::run(args, context).await,
        Command::Retire { id, place, dry_run } => retire(id, &place, dry_run, context).await,
        Command::Set { vendor, region, key_id, place, dry_run } => {
            set(vendor, region, key_id, &place, dry_run, context).await
        }
        Command::Keyring { file, dry_run } => {
            if dry_run {
                if file.exists() {
                    let what = format!("{} is there already", file.display());
                    return Err(Failure::refused(what, "name another file").into());
                }
            } else {
                Keyring::generate(&file)?;
            }
            let what = format!("an empty keyring in {}", file.display());
            context.output.answer(&Done { what, change: "made", dry_run })?;
            Ok(Exit::Ok)
        }
    }
}

async fn census(place: &Place, context: &Context) -> anyhow::Result<Exit> {
    let work = async |control: &Control| {
        let (scope, _) = place.keys(context, control).await?;
        let census = with_spinner("counting sealed values", key_rotation::census(&scope)).await?;
        context.output.answer(&Censused { place: scope.name(), census })?;
        Ok(Exit::Ok)
    };
    context.with_control(async |control| context.interruptible(work(control)).await).await
}

async fn retire(id: Uuid, place: &Place, dry_run: bool, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let (scope, _) = place.keys(context, control).await?;
            let found = key_rotation::census(&scope).await?;
            let errand = errand(&found, id)?;
            let kept = backups_kept(control)?;
            let vault = control.vault()?;
            let asked = key_rotation::change(&scope, &vault, &errand, kept, context.actor(), dry_run).await?;
            answer(&asked, format!("the key {id}"), "retire", place, dry_run, context)
        })
        .await
}

/// How old a backup may be that is restored: a guess would shred what somebody may yet restore.
fn backups_kept(control: &Control) -> anyhow::Result<Duration> {
    let days = control.config().tenants.backup_days.ok_or_else(|| {
        Failure::configuration(
            "nobody has said for how long backups of the databases are kept",
            "set `tenants.backup_days`: a key is retired when no backup could need it any more",
        )
    })?;
    Ok(Duration::from_hours(24) * days)
}

fn errand(census: &Census, id: Uuid) -> anyhow::Result<Errand> {
    if census.deks.iter().any(|dek| dek.id == DekId(id)) {
        return Ok(Errand::RetireDek(DekId(id)));
    }
    if census.keks.iter().any(|kek| kek.kek.id == KekId(id)) {
        return Ok(Errand::RetireKek(KekId(id)));
    }
    Err(Failure::not_found(format!("there is no key {id} here"), "`tenure key census` shows all of them")
        .into())
}

async fn set(
    vendor: Vendor,
    region: String,
    key_id: String,
    place: &Place,
    dry_run: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let (scope, _) = place.keys(context, control).await?;
            let vault = control.vault()?;
            let reference = KeyReference { vendor, region, key_id };
            // No key goes out of use by that, so no backup needs it any longer than before.
            let (kept, errand) = (Duration::ZERO, Errand::Name(reference.clone()));
            let asked = key_rotation::change(&scope, &vault, &errand, kept, context.actor(), dry_run).await?;
            answer(&asked, reference.to_string(), "wrap new keys with", place, dry_run, context)
        })
        .await
}

fn answer(
    asked: &Asked<Changed>,
    what: String,
    verb: &str,
    place: &Place,
    dry_run: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    match *asked {
        Asked::Waits { id, .. } => {
            let (flag, what) = (place.flag(), format!("to {verb} {what}"));
            context.output.answer(&Waits { what, approval: (!dry_run).then_some(id), flag, dry_run })?;
        }
        Asked::Done(Changed::Named(_)) => {
            context.output.answer(&Done { what, change: "made the key that wraps new ones", dry_run })?;
        }
        Asked::Done(Changed::Retired(retired)) => {
            let change = match (retired.is_new, retired.destroyed) {
                (_, true) => "retired and destroyed",
                (true, false) => "retired",
                (false, false) => "retired before",
            };
            context.output.answer(&Done { what, change, dry_run })?;
        }
    }
    Ok(Exit::Ok)
}
