//! `tenure doctor`: every finding with what to do about it. Exit 1 if something has failed.

mod checks;

use std::io;

use serde::Serialize;

use super::{
    Context,
    exit::{self, Exit},
    output::{Answer, Page, Tone, chain},
};
use crate::wiring::{Control, Schema};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    outcome: Outcome,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Findings {
    checks: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, name: &'static str, message: impl Into<String>) {
        self.checks.push(Finding { name, outcome: Outcome::Ok, message: message.into(), advice: None });
    }

    fn warn(&mut self, name: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        let (message, advice) = (message.into(), Some(advice.into()));
        self.checks.push(Finding { name, outcome: Outcome::Warning, message, advice });
    }

    fn fail(&mut self, name: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        let (message, advice) = (message.into(), Some(advice.into()));
        self.checks.push(Finding { name, outcome: Outcome::Failed, message, advice });
    }

    /// A check that could not be made has failed.
    fn error(&mut self, name: &'static str, error: &anyhow::Error) {
        let (_, help) = exit::judge(error);
        self.fail(
            name,
            chain(error),
            help.unwrap_or_else(|| "remove the cause and run `tenure doctor` again".to_owned()),
        );
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let mut findings = Findings::default();
    findings.ok("configuration", format!("valid, {}", context.config.environment));
    let opening = Control::open(context.config.clone(), context.output, Schema::Any);
    match context.interruptible(opening).await {
        Ok(control) => {
            findings.ok("database", format!("{} answers", control.server().name()));
            checks::all(&control, &mut findings).await;
            if let Err(error) = control.close().await {
                findings.error("database", &error);
            }
        }
        Err(error) => findings.error("database", &error),
    }
    context.output.answer(&findings)?;
    let has_failed = findings.checks.iter().any(|check| check.outcome == Outcome::Failed);
    Ok(if has_failed { Exit::Failed } else { Exit::Ok })
}

impl Answer for Findings {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for check in &self.checks {
            let (tone, word) = match check.outcome {
                Outcome::Ok => (Tone::Good, "ok     "),
                Outcome::Warning => (Tone::Doubtful, "warning"),
                Outcome::Failed => (Tone::Bad, "failed "),
            };
            page.toned_line(tone, word, format_args!("  {}: {}", check.name, check.message))?;
            if let Some(advice) = &check.advice {
                page.line(format_args!("           {advice}"))?;
            }
        }
        Ok(())
    }
}
