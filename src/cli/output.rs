//! What the program says: data to stdout, talk to stderr.
//!
//! With `--json` the data is one object with the member `schema`, and an error is one too. A reader that goes away
//! (`| head`) ends the program quietly. What comes from outside is cleared of control characters before it reaches a
//! terminal.

mod page;
mod progress;

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

pub(crate) use self::{
    page::{Page, Table, Tone, age, bytes},
    progress::{Progress, above as above_progress, with_spinner},
};
use super::exit::{Exit, Failure};
use crate::config::{ConfigError, Fault};

/// The version of everything that is printed as JSON.
const SCHEMA: &str = "tenure/v1";

/// Something a command has to tell: its serialization is the JSON, [`text`](Self::text) is for people.
pub(crate) trait Answer: Serialize {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()>;
}

/// Where and how to say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorMember<'a>,
}

#[derive(Serialize)]
struct ErrorMember<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    faults: &'a [Fault],
}

impl Output {
    /// Prints the answer to stdout.
    pub(crate) fn answer<A: Answer>(self, answer: &A) -> io::Result<()> {
        let mut text = Vec::new();
        if self.json {
            serde_json::to_writer_pretty(&mut text, &Envelope { schema: SCHEMA, body: answer })?;
            text.push(b'\n');
        } else {
            answer.text(&mut Page::new(&mut text, has_colour(&io::stdout())))?;
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&text)?;
        stdout.flush()
    }

    /// Says something about what is going on.
    #[expect(clippy::unused_self, reason = "whoever talks holds the value that answers too")]
    pub(crate) fn say(self, text: &str) {
        above_progress(|| {
            // Nobody is left to hear that talking failed.
            let _gone = writeln!(io::stderr(), "{}", page::clean(text));
        });
    }

    /// Tells why a command failed and what to do about it.
    pub(crate) fn error(self, error: &anyhow::Error, exit: Exit, help: Option<&str>) {
        let faults = error.chain().find_map(|error| match error.downcast_ref::<ConfigError>() {
            Some(error) => Some(error.faults.as_slice()),
            None => error.downcast_ref::<Failure>().map(|failure| failure.faults.as_slice()),
        });
        self.plain_error(&chain(error), exit, help, faults.unwrap_or_default());
    }

    /// The same from a text.
    pub(crate) fn plain_error(self, message: &str, exit: Exit, help: Option<&str>, faults: &[Fault]) {
        if self.json {
            let error = ErrorMember { code: exit.name(), message, help, faults };
            let body = Envelope { schema: SCHEMA, body: &ErrorBody { error } };
            let text = serde_json::to_string_pretty(&body).expect("texts can always be serialized");
            let _gone = writeln!(io::stdout(), "{text}");
            return;
        }
        let mut text = Vec::new();
        let written =
            page::error(&mut Page::new(&mut text, has_colour(&io::stderr())), message, help, faults);
        written.expect("memory takes everything");
        let _gone = io::stderr().write_all(&text);
    }
}

/// An error and its causes in one sentence; a cause that its effect has already told is not repeated.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let gap = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{gap}{cause}");
        }
    }
    text
}

/// Whether a stream shows colours: it is a terminal, and nobody asked for none (https://no-color.org).
fn has_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb()
}

/// Whether progress may be animated.
fn is_animated() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether writing failed because the reader has seen enough.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    // A database's connection can break too: only our own writing is the outermost error.
    error.chain().next().is_some_and(io)
}
