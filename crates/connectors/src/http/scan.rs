//! A scan of an API, by `GET` alone.

use std::collections::BTreeMap;

use super::HttpSource;
use super::check::{check_page, describe};
use super::page::{Item, Page};
use crate::definition::{FieldPath, Method, Stream};
use crate::json;
use crate::report::CheckReport;
use crate::scan::{Precision, Proof, Scan, ScannedStream, Volume, expected, extra, missing};
use crate::source::ReadOptions;
use crate::state::State;

impl HttpSource {
    pub(crate) async fn scan(&self, streams: &[Stream], sample: usize) -> Scan {
        let proof = Proof::Requests { sent: BTreeMap::new() };
        let mut scan =
            Scan { report: CheckReport::default(), streams: Vec::new(), beside: Vec::new(), proof };
        for stream in streams {
            let name = Some(stream.name.as_str());
            let is_get = self.http(stream).is_ok_and(|http| http.method == Method::Get);
            if !is_get {
                let advice = "`connector check` asks for a page of it";
                scan.report.warn("read", name, "it is read by POST, and a scan sends GET alone", advice);
                continue;
            }
            let mut warnings = Vec::new();
            match self.sample(stream, &mut warnings).await {
                Ok(page) => {
                    check_page(stream, &page, &mut scan.report);
                    let seen = self.scan_stream(stream, &page, sample, &mut scan.report).await;
                    scan.streams.push(seen);
                }
                Err(error) => scan.report.fail("read", name, &error),
            }
            for warning in warnings {
                scan.report.warn("read", name, warning, "nothing, if it happens rarely");
            }
        }
        scan.proof = Proof::Requests { sent: self.sent() };
        scan
    }

    async fn scan_stream(
        &self,
        stream: &Stream,
        page: &Page,
        sample: usize,
        report: &mut CheckReport,
    ) -> ScannedStream {
        let fields = describe(stream, page).fields;
        let expected = expected(stream, &stream.key);
        let records: Vec<_> = page
            .items
            .iter()
            .filter_map(|item| if let Item::Json(text) = item { Some(text.as_str()) } else { None })
            .collect();
        let is_there = |field: &FieldPath| records.iter().any(|text| json::at(text, field.names()).is_some());
        // A page without records says nothing about fields.
        let missing = if records.is_empty() { Vec::new() } else { missing(&expected, is_there) };
        let batch = match self.first(stream, sample).await {
            Ok(batch) => batch,
            Err(error) => {
                report.fail("sample", Some(&stream.name), &error);
                None
            }
        };
        let volume = batch.as_ref().map(|batch| Volume {
            records: batch.read,
            precision: if batch.finished { Precision::Exact } else { Precision::AtLeast },
        });
        ScannedStream {
            name: stream.name.clone(),
            volume,
            missing,
            extra: extra(stream, &stream.key, &fields),
            fields,
            refused: Vec::new(),
            may_write: None,
            sample: batch,
        }
    }

    async fn first(
        &self,
        stream: &Stream,
        records: usize,
    ) -> Result<Option<crate::record::Batch>, crate::error::SourceError> {
        let options = ReadOptions { batch_records: records, ..ReadOptions::default() };
        self.read(stream, &State::default(), options)?.next().await
    }
}
