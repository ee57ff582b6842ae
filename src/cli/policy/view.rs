//! `tenure policy add|list|show`: what they answer.

use std::io;

use database::tenant::TenantDb;
use governance::{
    path,
    policy::{self, Policy, StoredPolicy},
};
use serde::Serialize;

use super::super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table},
};

pub(super) fn added(
    context: &Context,
    policy: &Policy,
    version: i32,
    is_new: bool,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let digest = policy.digest().to_string();
    context.output.answer(&Added { path: policy.path(), version, digest, is_new, dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Added<'a> {
    path: &'a str,
    version: i32,
    digest: String,
    #[serde(rename = "new")]
    is_new: bool,
    dry_run: bool,
}

impl Answer for Added<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { path, version, digest, .. } = self;
        let would = if self.dry_run { "would be" } else { "is" };
        if self.is_new {
            page.line(format_args!("version {version} of the policy of {path} {would} stored ({digest})"))
        } else {
            page.line(format_args!("the policy of {path} is this one already: version {version}"))
        }
    }
}

pub(super) async fn list(context: &Context, db: &TenantDb, name: &str) -> anyhow::Result<Exit> {
    let mut read = db.read().await?;
    let path = path::by_name(&mut read, name).await?;
    let versions = policy::list(&mut read, &path).await?;
    read.finish().await?;
    context.output.answer(&Listed { path: name, versions })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed<'a> {
    path: &'a str,
    versions: Vec<StoredPolicy>,
}

impl Answer for Listed<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.versions.is_empty() {
            return page
                .line(format_args!("{} has no policy: `tenure policy add FILE` gives it one", self.path));
        }
        let mut table = Table::new(["VERSION", "ADDED", "DIGEST"]);
        for it in &self.versions {
            let added = it.created_at.format("%Y-%m-%d %H:%M UTC").to_string();
            table.row(&[it.version.to_string(), added, it.digest.to_string()]);
        }
        page.table(&table)
    }
}

pub(super) async fn show(
    context: &Context,
    db: &TenantDb,
    name: &str,
    version: Option<i32>,
) -> anyhow::Result<Exit> {
    let mut read = db.read().await?;
    let path = path::by_name(&mut read, name).await?;
    let (stored, _) = policy::load(&mut read, &path, version).await?;
    read.finish().await?;
    context.output.answer(&Shown { path: name, policy: stored })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown<'a> {
    path: &'a str,
    #[serde(flatten)]
    policy: StoredPolicy,
}

impl Answer for Shown<'_> {
    /// The text alone, so that it can be put back into a file.
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.policy.text.lines().try_for_each(|line| page.line(line))
    }
}
