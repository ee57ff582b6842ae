//! Traces to an OpenTelemetry collector, in W3C trace context.

use anyhow::Context as _;
use opentelemetry::{Context, propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use std::collections::HashMap;
use tracing::{Span, Subscriber, warn};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::{
    Layer,
    filter::{Filtered, LevelFilter},
    registry::LookupSpan,
};

/// The member in which a trace context travels.
const TRACEPARENT: &str = "traceparent";

/// The way to the collector.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send spans, in batches from a thread of their own.
    pub(super) fn start(endpoint: &str) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build();
        let exporter = exporter.with_context(|| format!("while preparing to send traces to {endpoint}"))?;
        let resource = Resource::builder().with_service_name("tenure").build();
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Self { provider })
    }

    /// Takes spans of level `info` and above, whatever is logged.
    pub(super) fn layer<S>(&self) -> Filtered<OpenTelemetryLayer<S, SdkTracer>, LevelFilter, S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tenure"))
            .with_filter(LevelFilter::INFO)
    }

    /// Sends what is left.
    pub(super) fn end(self) {
        if let Err(error) = self.provider.shutdown() {
            warn!(%error, "the last traces could not be sent");
        }
    }
}

/// The context of the current span; none outside of one that is recorded.
pub(super) fn current() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes the span a child of the one in which the job was enqueued.
pub(super) fn continue_from(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if let Err(error) = span.set_parent(parent) {
        warn!(%error, "the attempt's span could not be connected to its job's trace");
    }
}
