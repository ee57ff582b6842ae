//! How fast rules decide, without a database.

use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Decider, Evidence, Record, Tally, Verdict};
use crate::{
    digest::Digest,
    path::{Path, PathState},
    policy::{Fields, Policy, PolicyFaults},
};

/// The policy that is measured: six rules over a contact's e-mail, phone and country.
pub const MEASURED_POLICY: &str = include_str!("measured.toml");

/// Records made, decided on and forgotten at a time.
const PAGE: u64 = 2_000;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Records decided on.
    pub records: u64,
    /// Rules of the policy.
    pub rules: usize,
    /// Seconds spent deciding, on one core; making the records does not count.
    pub seconds: f64,
    /// Decisions a second.
    pub per_sec: f64,
    /// How many were to be fixed.
    pub fixes: u64,
    /// How many went to people.
    pub reviews: u64,
    /// The memory of this process after the first tenth and at the end, at most so far.
    pub memory_peak_bytes: Option<[u64; 2]>,
}

/// Decides over so many generated records, one in five with a fault of some kind.
pub fn measure(records: u64) -> Result<Measured, PolicyFaults> {
    let policy = Policy::compile(MEASURED_POLICY, "the measured policy", &Fields::any(), None)?;
    let path = path();
    let decider = Decider::new(&path, &policy, DateTime::UNIX_EPOCH);
    let (mut tally, mut seconds, mut early) = (Tally::default(), 0.0, None);
    let mut made = 0;
    while made < records {
        let page: Vec<_> = (made..records.min(made + PAGE)).map(record).collect();
        let began = Instant::now();
        for record in &page {
            tally.add(&decider.decide(record, &Evidence::none()));
        }
        seconds += began.elapsed().as_secs_f64();
        made += PAGE;
        if early.is_none() && made >= records / 10 {
            early = memory_peak_bytes();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let per_sec = records as f64 / seconds;
    Ok(Measured {
        records,
        rules: policy.rules().count(),
        seconds,
        per_sec,
        fixes: tally.of(Verdict::Fix),
        reviews: tally.of(Verdict::Review),
        memory_peak_bytes: early.zip(memory_peak_bytes()).map(<[u64; 2]>::from),
    })
}

fn path() -> Path {
    Path {
        id: 0,
        name: "measured".to_owned(),
        connector: "crm".to_owned(),
        stream: "contacts".to_owned(),
        fields: ["email", "phone", "country"].map(str::to_owned).to_vec(),
        state: PathState::Catalogued,
        daily_cap: 0,
        breaker_limit: 1,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}

/// Record `number` is always the same.
fn record(number: u64) -> Record {
    let email = match number % 20 {
        0 => format!(" Person{number}@Example.COM"),
        1 => format!("person{number}@"),
        _ => format!("person{number}@example.com"),
    };
    let phone = if number % 20 == 2 { "020 7946 0018" } else { "+442079460018" };
    let country = if number % 20 == 3 { "Germany" } else { "DE" };
    let data = json!({
        "id": number, "full_name": format!("Person {number}"), "email": email, "phone": phone, "country": country,
        "title": "Engineer", "active": true, "updated_at": "2026-11-01T10:00:00Z", "notes": null,
    });
    let data: Map<String, Value> = data.as_object().cloned().unwrap_or_default();
    let digest = Digest::of(&number.to_be_bytes()).to_string();
    Record { key: number.to_string(), digest, data: Some(data), changed_at: DateTime::UNIX_EPOCH }
}

/// What the kernel says of this process, where it does.
fn memory_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
