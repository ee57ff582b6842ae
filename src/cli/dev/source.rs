//! The sample source: a CRM's database beside the control database, and the file that defines a connector to it.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;
use connectors::Definition;
use database::{passwords::generate_key_file, sample};
use secrecy::SecretString;
use sqlx::Connection;

use crate::wiring::Control;

/// The connector's name, and that of its file.
const CONNECTOR: &str = "crm-sample";

/// Makes the source unless it is there, writes the connector's file, and reads it back as any other.
pub(super) async fn prepare(control: &Control) -> anyhow::Result<Definition> {
    let mut server = control.direct_connection().await?;
    let made = database::create::database(&mut server, sample::DATABASE).await;
    made.with_context(|| format!("while making the database {}", sample::DATABASE))?;
    let options = control.direct().clone().database(sample::DATABASE);
    let mut source = database::connect::connect(&options).await?;
    sample::make(&mut source).await.context("while making the sample source")?;
    let folder = control.data_folder()?.join("connectors");
    fs::create_dir_all(&folder).with_context(|| format!("while making {}", folder.display()))?;
    let password_file = folder.join(format!("{CONNECTOR}.writer.password"));
    let password = writer_password(&password_file)?;
    sample::admit_writer(&mut source, &password).await.context("while making the role that writes")?;
    source.close().await?;
    define(control, &folder, &password_file)
}

/// The same in every run.
fn writer_password(file: &Path) -> anyhow::Result<SecretString> {
    if !file.exists() {
        generate_key_file(file)?;
    }
    let text = fs::read_to_string(file).with_context(|| format!("while reading {}", file.display()))?;
    Ok(text.trim_end().into())
}

fn define(control: &Control, folder: &Path, writer_password_file: &Path) -> anyhow::Result<Definition> {
    let (url, password) = control.server().url_of(sample::DATABASE);
    // The last user that a URL names counts.
    let mark = if url.contains('?') { '&' } else { '?' };
    let writer_url = format!("{url}{mark}user={}", sample::WRITER);
    let mut text = include_str!("crm-sample.toml")
        .replace("{url}", &url)
        .replace("{writer_url}", &writer_url)
        .replace("{writer_password_file}", &format!("{:?}", writer_password_file.display().to_string()));
    if let Some(password) = password {
        let path = folder.join(format!("{CONNECTOR}.password"));
        write(&path, &password, 0o600)?;
        text =
            text.replace("{password_file}", &format!("password_file = {:?}\n", path.display().to_string()));
    } else {
        text = text.replace("{password_file}", "");
    }
    let path = folder.join(format!("{CONNECTOR}.toml"));
    write(&path, &text, 0o644)?;
    Ok(Definition::parse(&text, &path.display().to_string())?)
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let writing = fs::File::options().write(true).create(true).truncate(true).mode(mode).open(path);
    let written = writing.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("while writing {}", path.display()))
}
