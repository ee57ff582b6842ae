//! What is governed, by which rules, and the candidate that is to prove itself.

use std::path::Path as FilePath;

use governance::{
    actor,
    candidate::{self, Definition},
    path::{self, NewPath, Path, PathError},
    policy,
};
use serde::Serialize;

use super::{ADA, CANDIDATE, FIELD, PATH, STREAM, Stage};
use crate::cli::policy::{compile, surroundings};

const POLICY: &str = include_str!("../crm-phones.toml");

#[derive(Debug, Serialize)]
pub(super) struct Governed {
    pub(super) path: String,
    pub(super) stream: String,
    pub(super) fields: Vec<String>,
    pub(super) policy: i32,
    pub(super) candidate: String,
}

impl Stage<'_> {
    pub(super) async fn govern(&self) -> anyhow::Result<Governed> {
        self.path().await?;
        let (path, fields) = surroundings(self.db, PATH).await?;
        let policy = compile(POLICY, FilePath::new("crm-phones.toml"), &fields, Some(&path.fields))?;
        let mut write = self.db.write().await?;
        let ada = actor::named(&mut write, ADA).await?;
        let (version, _) = policy::add(&mut write, &path, &policy, &ada).await?;
        write.commit().await?;
        let mut write = self.db.write().await?;
        let (stored, _) = policy::load(&mut write, &path, Some(version)).await?;
        let definition = Definition::of_rules(&path, &stored);
        candidate::create(&mut write, CANDIDATE, &definition, ada.id).await?;
        write.commit().await?;
        Ok(Governed {
            path: path.name,
            stream: format!("{}/{}", path.connector, path.stream),
            fields: path.fields,
            policy: version,
            candidate: CANDIDATE.to_owned(),
        })
    }

    async fn path(&self) -> anyhow::Result<()> {
        let mut write = self.db.write().await?;
        match path::by_name(&mut write, PATH).await {
            Err(PathError::Unknown(_)) => {}
            found => return Ok(found.map(|_: Path| ())?),
        }
        let ada = actor::named(&mut write, ADA).await?;
        let new = NewPath {
            name: PATH.to_owned(),
            connector: self.definition.name().to_owned(),
            stream: STREAM.to_owned(),
            fields: vec![FIELD.to_owned()],
            daily_cap: 100,
            breaker_limit: 3,
        };
        path::create(&mut write, &new, &ada).await?;
        Ok(write.commit().await?)
    }
}
