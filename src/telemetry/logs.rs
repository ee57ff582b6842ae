//! Logs on stderr: text for a terminal, JSON for everything else.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry::LookupSpan};

use crate::cli::output::above_progress;

/// What is logged.
pub(super) fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text).with_context(|| format!("while reading the log filter {text:?}"))
}

/// How it is logged.
pub(super) fn layer<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let layer = fmt::layer().with_writer(|| Stderr);
    if io::stderr().is_terminal() {
        return layer.with_ansi(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())).boxed();
    }
    layer.json().flatten_event(true).with_span_list(false).boxed()
}

/// Stderr, without tearing a progress bar. An event arrives in one call.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        above_progress(|| io::stderr().write_all(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
