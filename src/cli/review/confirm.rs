//! `tenure review confirm`: a second person's word.

use std::io;

use clap::Subcommand;
use governance::review::{self, Agreement, ReviewId, Word};
use serde::Serialize;
use serde_json::Value;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page},
        tenant::Whose,
    },
    change::{parse_set, person},
    refused,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its number
    id: ReviewId,
    #[command(subcommand)]
    word: Said,
}

#[derive(Debug, Subcommand)]
enum Said {
    /// The proposed values are right
    Accept(Why),
    /// Other values are right
    Correct {
        /// What is right, once for each field; JSON, or a text as it is
        #[arg(long = "set", value_name = "FIELD=VALUE", required = true, value_parser = parse_set)]
        set: Vec<(String, Value)>,
        #[command(flatten)]
        why: Why,
    },
    /// The record was right as it was
    Reject(Why),
}

#[derive(Debug, clap::Args)]
struct Why {
    /// Why; stays with the tenant
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let (word, why) = match &args.word {
        Said::Accept(why) => (Word::Accept, why),
        Said::Correct { set, why } => (Word::Correct(set.iter().cloned().collect()), why),
        Said::Reject(why) => (Word::Reject, why),
    };
    let id = args.id;
    why.whose
        .enter(context, async |db| {
            let mut write = db.write().await?;
            let by = person(&mut write, context.actor()).await?;
            let agreement = review::confirm(&mut write, id, word, &why.reason, by).await.map_err(refused)?;
            if !why.dry_run {
                write.commit().await?;
            }
            // Whoever only tries is not told what the first word was.
            let agreement = (!why.dry_run).then_some(agreement);
            context.output.answer(&Confirmed { case: id, agreement, dry_run: why.dry_run })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Confirmed {
    case: ReviewId,
    agreement: Option<Agreement>,
    dry_run: bool,
}

impl Answer for Confirmed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let id = self.case;
        match self.agreement {
            None => page.line(format_args!("nothing was done; your word on case {id} would be kept")),
            Some(Agreement::Settled) => {
                page.line(format_args!("case {id} is settled: two persons said the same, and that is its truth"))
            }
            Some(Agreement::Open) => page.line(format_args!(
                "your word on case {id} differs from the first: it has no truth until another person agrees with one"
            )),
        }
    }
}
