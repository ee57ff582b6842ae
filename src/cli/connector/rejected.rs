//! `tenure connector rejected`: the records that syncs have set aside.

use std::io;

use jobs::connector_registry::{self, RejectedRecord};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page, Table},
        tenant,
    },
    Named,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    named: Named,
    /// Only this stream
    #[arg(long)]
    stream: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let connector = match args.named.file() {
        Some(path) => Named::read(path, context)?.name().to_owned(),
        None => args.named.connector.clone(),
    };
    context
        .with_control(async |control| {
            let tenant = tenant::or_default(context, control, args.named.tenant.as_ref()).await?;
            let db = control.tenant(&tenant).await?;
            // A connector that is not there has set nothing aside; say that it is not there.
            connector_registry::load(&db, &connector).await?;
            let stream = args.stream.as_deref();
            let by = context.actor();
            let rejected = connector_registry::view_rejected(&db, &connector, stream, args.limit, by).await?;
            context.output.answer(&Listed { rejected })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Listed {
    rejected: Vec<RejectedRecord>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.rejected.is_empty() {
            return page.line("nothing is set aside");
        }
        let mut table = Table::new(["STREAM", "KEY", "REASON", "TIMES", "LAST SEEN", "DETAIL"]);
        for record in &self.rejected {
            table.row(&[
                record.stream.clone(),
                record.key.clone().unwrap_or_else(|| "-".to_owned()),
                record.reason.clone(),
                record.times.to_string(),
                record.last_seen_at.format("%Y-%m-%d %H:%M UTC").to_string(),
                record.detail.clone(),
            ]);
        }
        page.table(&table)
    }
}
