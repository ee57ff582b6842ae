//! `tenure receipt show|verify`.

use std::io;

use clap::Subcommand;
use database::control::TenantName;
use governance::{
    reading::Reading,
    receipt::{self, Proof, ReceiptId, Subject},
    review::{self, ReviewId},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, Tone},
    reading, tenant,
};
use crate::wiring::Control;

const EXAMPLES: &str = "Examples:
  tenure receipt show 42.17 --tenant acme
  tenure receipt show --review 7          that of the newest word on a case, or of its decision
  tenure receipt verify 42.17 --json      the path to the root that the audit chain carries";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The receipt's number
    receipt: ReceiptId,
    /// The tenant whose receipt it is [default: the only one there is]
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The receipt's number
    #[arg(required_unless_present = "review")]
    receipt: Option<ReceiptId>,
    /// Of this case of the review queue
    #[arg(long, value_name = "CASE", conflicts_with = "receipt")]
    review: Option<ReviewId>,
    /// The tenant whose receipt it is [default: the only one there is]
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
}

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// What was decided, by whom, under which policy, and what came of it
    Show(ShowArgs),
    /// Recompute the receipt's path and look for its root in the audit chain
    Verify(Args),
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            context
                .interruptible(async {
                    match &command {
                        Command::Show(args) => show(args, context, control).await,
                        Command::Verify(args) => verify(args, context, control).await,
                    }
                })
                .await
        })
        .await
}

async fn show(args: &ShowArgs, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let tenant = tenant::or_default(context, control, args.tenant.as_ref()).await?;
    let db = control.tenant(&tenant).await?;
    let mut read = db.read().await?;
    let id = match (args.receipt, args.review) {
        (Some(id), _) => id,
        (None, Some(case)) => of_case(&mut read, case).await?,
        (None, None) => {
            return Err(Failure::usage("no receipt is named", "`tenure receipt show --help`").into());
        }
    };
    let stored = receipt::find(&mut read, id).await?;
    let later = receipt::later(&mut read, id).await?;
    read.finish().await?;
    reading::on_record(context, &db, &Reading::Receipt(id)).await?;
    let document = serde_json::from_slice(&stored.content)?;
    context.output.answer(&Shown { id, entry: stored.seq, content: document, later })?;
    Ok(Exit::Ok)
}

/// The receipt of the newest word on a case, or of the decision that it is about.
async fn of_case(conn: &mut sqlx::PgConnection, id: ReviewId) -> anyhow::Result<ReceiptId> {
    let none = |what: &str| {
        Failure::not_found(format!("there is no {what} {id}"), "`tenure review list --all` shows cases")
    };
    let case = review::get(conn, id).await?.ok_or_else(|| none("case"))?;
    let mut receipts = receipt::about(conn, Subject::Decision(case.decision)).await?;
    receipts.extend(receipt::about(conn, Subject::Review(id.0)).await?);
    Ok(receipts.pop().ok_or_else(|| none("receipt about case"))?)
}

#[derive(Serialize)]
struct Shown {
    id: ReceiptId,
    /// The audit entry that anchors it.
    entry: i64,
    content: Value,
    /// The receipts that go on from this one.
    later: Vec<ReceiptId>,
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 24;
        page.entry(WIDTH, "receipt", self.id)?;
        page.entry(WIDTH, "audit entry", self.entry)?;
        for member in ["at", "actor", "job"] {
            page.entry(WIDTH, member, word(&self.content[member]))?;
        }
        for (name, value) in flat("", &self.content["receipt"]) {
            page.entry(WIDTH, &name, value)?;
        }
        for later in &self.later {
            page.entry(WIDTH, "goes on in", later)?;
        }
        Ok(())
    }
}

/// The members of members as `outer.inner`.
fn flat(prefix: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(members) => {
            members.iter().flat_map(|(name, value)| flat(&join(prefix, name), value)).collect()
        }
        Value::Array(values) => values.iter().map(|value| (prefix.to_owned(), word(value))).collect(),
        value => vec![(prefix.to_owned(), word(value))],
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn verify(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let tenant = tenant::or_default(context, control, args.tenant.as_ref()).await?;
    let mut read = control.tenant(&tenant).await?.read().await?;
    let proved = receipt::prove(&mut read, args.receipt).await?;
    read.finish().await?;
    match proved {
        Ok(proof) => {
            context.output.answer(&Proved { id: args.receipt, proof })?;
            Ok(Exit::Ok)
        }
        Err(flaw) => {
            let what = format!("the receipt {} is not what was issued", args.receipt);
            let help = "`tenure audit verify` tells whether the chain itself is whole";
            Err(Failure::new(Exit::VerificationFailed, what, help).by(flaw).into())
        }
    }
}

#[derive(Serialize)]
struct Proved {
    id: ReceiptId,
    proof: Proof,
}

impl Answer for Proved {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Proof { size, path, root, seq, hash, .. } = &self.proof;
        page.toned_line(
            Tone::Good,
            "verified",
            format!(": receipt {} is one of {size} under entry {seq}", self.id),
        )?;
        page.line(format_args!("root {root}, by a path of {} hashes", path.len()))?;
        page.line(format_args!("entry {seq}, chain hash {hash}; `tenure audit verify` checks the chain"))
    }
}
