//! `tenure baseline show`: the last nights as a table, as JSON, or as a page for a browser.

use std::{io, path::PathBuf};

use database::control::TenantName;
use jobs::nightly_baseline::{self, WINDOW_DAYS, Window};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page},
        tenant,
    },
    file, html, view,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose [default: the only tenant in service]
    #[arg(long)]
    tenant: Option<TenantName>,
    /// How many days up to today, in UTC
    #[arg(long, default_value_t = WINDOW_DAYS, value_parser = clap::value_parser!(u32).range(2..=366))]
    days: u32,
    /// Also write it as a page for a browser, with charts: one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let shown = context.with_control(async |control| {
        let looked = async {
            let tenant = tenant::or_default(context, control, args.tenant.as_ref()).await?;
            let window = nightly_baseline::window(&control.tenant(&tenant).await?, args.days).await?;
            Ok(Shown { tenant: tenant.name.to_string(), days: args.days, window })
        };
        context.interruptible(looked).await
    });
    let shown = shown.await?;
    if let Some(path) = &args.html {
        file::write(path, &html::page(&shown.tenant, &shown.window))?;
        context.output.say(&format!("the page is in {}", path.display()));
    }
    context.output.answer(&shown)?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown {
    tenant: String,
    days: u32,
    #[serde(flatten)]
    window: Window,
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        view::window(page, &self.tenant, &self.window)
    }
}
