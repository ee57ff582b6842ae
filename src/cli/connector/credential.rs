//! `tenure connector credential set|list|remove`.
//!
//! What is set comes from standard input, never from an argument, which a process listing would show; and nothing shows
//! it again.

use std::io::{self, IsTerminal as _, Read as _};

use clap::Subcommand;
use jobs::connector_credential::{self, Credential};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, Table},
    tenant::Whose,
};

const EXAMPLES: &str = "Examples:
  tenure connector credential set crm-reader --tenant acme < /run/secrets/crm
  pass show crm | tenure connector credential set crm-reader --tenant acme
  tenure connector credential set crm-reader --tenant acme      asks for it, without showing what is typed

A definition names it: password_credential = \"crm-reader\" in [postgres] or [target], or token_credential,
password_credential or value_credential in `auth`. It is sealed under the tenant's key in the tenant's own database.";

/// A credential is a password or a token, no document.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Seal a credential from standard input and keep it, in the place of an older one of this name
    #[command(after_help = EXAMPLES)]
    Set {
        /// Its name: a letter a-z, then a-z, 0-9, - and _, at most 63 in all
        name: String,
        #[command(flatten)]
        whose: Whose,
        /// Say what would be done and do nothing; standard input is not read
        #[arg(long)]
        dry_run: bool,
    },
    /// The names of all credentials, and which connectors name them
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Forget a credential that no connector names
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        whose: Whose,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Set { name, whose, dry_run } => set(&name, &whose, dry_run, context).await,
        Command::List { whose } => {
            whose
                .enter(context, async |db| {
                    let credentials = connector_credential::list(db).await?;
                    context.output.answer(&Listed { credentials })?;
                    Ok(Exit::Ok)
                })
                .await
        }
        Command::Remove { name, whose, dry_run } => {
            whose
                .enter(context, async |db| {
                    connector_credential::remove(db, &name, context.actor(), dry_run).await?;
                    context.output.answer(&Changed { name: name.clone(), change: "removed", dry_run })?;
                    Ok(Exit::Ok)
                })
                .await
        }
    }
}

async fn set(name: &str, whose: &Whose, dry_run: bool, context: &Context) -> anyhow::Result<Exit> {
    if !connector_credential::is_name(name) {
        let help = "write a letter a-z, then a-z, 0-9, - and _, at most 63 in all";
        // It may be the secret itself, typed into the wrong place: it is not repeated.
        return Err(Failure::usage("that is no name of a credential", help).into());
    }
    // Before a database is looked for: whoever types should not wait, nor type for nothing.
    let text = if dry_run { None } else { Some(read(name)?) };
    whose
        .enter_with_queue(context, async |control, db| {
            let is_new = match &text {
                Some(text) => {
                    connector_credential::set(db, &control.vault()?, name, text, context.actor()).await?
                }
                None => !connector_credential::list(db).await?.iter().any(|one| one.name == name),
            };
            let change = if is_new { "set" } else { "replaced" };
            context.output.answer(&Changed { name: name.to_owned(), change, dry_run })?;
            Ok(Exit::Ok)
        })
        .await
}

/// From a terminal without showing it, else all of standard input without the line break at its end.
fn read(name: &str) -> anyhow::Result<SecretString> {
    let stdin = io::stdin();
    let text = if stdin.is_terminal() {
        let term = console::Term::stderr();
        term.write_str(&format!("credential {name}: "))?;
        SecretString::from(term.read_secure_line()?)
    } else {
        // Room for all of it at once: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(BYTES_MAX)? + 1));
        let read = stdin.lock().take(BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| {
            Failure::usage("the credential on standard input is no text", "write it as UTF-8").by(error)
        })?;
        if text.len() as u64 > BYTES_MAX {
            let what = format!("the credential on standard input is longer than {BYTES_MAX} bytes");
            return Err(Failure::usage(what, "give a password or a token").into());
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        SecretString::from(line.strip_suffix('\r').unwrap_or(line))
    };
    if text.expose_secret().is_empty() {
        let help = format!("write `tenure connector credential set {name} < FILE`");
        return Err(Failure::usage("there is no credential on standard input", help).into());
    }
    Ok(text)
}

#[derive(Serialize)]
struct Changed {
    name: String,
    change: &'static str,
    dry_run: bool,
}

impl Answer for Changed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { name, change, dry_run } = self;
        let verb = if *dry_run { "would be" } else { "was" };
        page.line(format_args!("the credential {name} {verb} {change}"))
    }
}

#[derive(Serialize)]
struct Listed {
    credentials: Vec<Credential>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.credentials.is_empty() {
            return page
                .line("no credential is kept: `tenure connector credential set NAME < FILE` keeps one");
        }
        let mut table = Table::new(["NAME", "SET", "KEY", "CONNECTORS"]);
        for one in &self.credentials {
            let connectors =
                if one.connectors.is_empty() { "-".to_owned() } else { one.connectors.join(", ") };
            let set_at = one.set_at.format("%Y-%m-%d %H:%M UTC").to_string();
            table.row(&[one.name.clone(), set_at, one.dek.to_string(), connectors]);
        }
        page.table(&table)
    }
}
