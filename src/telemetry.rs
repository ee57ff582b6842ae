//! What the process tells of itself: logs, metrics, traces.
//!
//! Logs go to stderr, as JSON unless it is a terminal. Metrics and probes answer on a listener of their own, only when
//! configured. Traces leave only from a program built with the feature `otlp`. Payloads are never logged, and no metric
//! is labelled with a tenant or a job.

mod listener;
mod logs;
mod metrics;
#[cfg(feature = "otlp")]
mod traces;

use tracing::Span;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub(crate) use self::listener::Listener;
use crate::config::Config;

/// Keeps telemetry going; dropped last, it sends what is left.
#[derive(Debug)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<traces::Traces>,
}

impl Telemetry {
    /// Starts logging, and tracing where configured. `log_filter` is in force unless the configuration chose one.
    pub(crate) fn start(config: &Config, log_filter: &str) -> anyhow::Result<Self> {
        let filter = if config.chose_log_filter() { &config.telemetry.log_filter } else { log_filter };
        let registry = tracing_subscriber::registry().with(logs::layer().with_filter(logs::filter(filter)?));
        #[cfg(feature = "otlp")]
        {
            let traces = config.telemetry.otlp_endpoint.as_deref().map(traces::Traces::start).transpose()?;
            registry.with(traces.as_ref().map(traces::Traces::layer)).init();
            Ok(Self { traces })
        }
        #[cfg(not(feature = "otlp"))]
        {
            registry.init();
            Ok(Self {})
        }
    }

    /// Sends what is left.
    #[cfg_attr(
        not(feature = "otlp"),
        expect(clippy::unused_self, reason = "without traces nothing is left to send")
    )]
    pub(crate) fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
}

/// The W3C trace context in which this process enqueues: its own span, else the caller's in `TRACEPARENT`.
pub(crate) fn traceparent() -> Option<String> {
    #[cfg(feature = "otlp")]
    if let Some(own) = traces::current() {
        return Some(own);
    }
    std::env::var("TRACEPARENT").ok().filter(|text| is_traceparent(text))
}

/// Connects an attempt's span to the trace in which its job was enqueued.
pub(crate) fn on_attempt(span: &Span, traceparent: Option<&str>) {
    #[cfg(feature = "otlp")]
    traces::continue_from(span, traceparent);
    #[cfg(not(feature = "otlp"))]
    let _ = (span, traceparent);
}

/// Version 00 of https://www.w3.org/TR/trace-context: `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zeros.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let id = |part: &str, length: usize| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    matches!(&*parts, ["00", trace, span, flags] if id(trace, 32) && id(span, 16) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_passed_on() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }
}
