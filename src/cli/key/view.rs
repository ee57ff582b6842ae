//! What the commands of keys answer.

use std::io;

use governance::approval::ApprovalId;
use jobs::key_rotation;
use queue::JobId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vault::{
    Census,
    rotation::{Action, Counts},
};

use super::super::output::{Answer, Page, Table, Tone, age};

#[derive(Serialize)]
pub(super) struct Censused {
    pub(super) place: String,
    #[serde(flatten)]
    pub(super) census: Census,
}

impl Answer for Censused {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Census { keks, deks, unknown } = &self.census;
        if keks.is_empty() {
            return page.line("nothing was ever sealed here");
        }
        let or_dash = |time: Option<chrono::DateTime<chrono::Utc>>| {
            time.map_or_else(|| "-".to_owned(), |time| time.format("%Y-%m-%d %H:%M UTC").to_string())
        };
        let mut table =
            Table::new(["WRAPPING KEY", "STATE", "VENDOR", "REGION", "CALLED", "WRAPS", "ROTATED", "USED"]);
        for one in keks {
            let wraps: Vec<_> =
                one.wraps.iter().map(|(version, keys)| format!("{keys} at version {version}")).collect();
            let reference = &one.kek.reference;
            table.row(&[
                one.kek.id.to_string(),
                one.kek.state.as_str().to_owned(),
                reference.vendor.to_string(),
                if reference.region.is_empty() { "-".to_owned() } else { reference.region.clone() },
                reference.key_id.clone(),
                if wraps.is_empty() { "0".to_owned() } else { wraps.join(", ") },
                or_dash(one.kek.last_rotated_at),
                or_dash(one.kek.last_used_at),
            ]);
        }
        page.table(&table)?;
        page.blank()?;
        let mut table = Table::new(["KEY", "TABLE", "STATE", "VALUES", "MADE", "SEALS NOTHING SINCE"]);
        for one in deks {
            table.row(&[
                one.id.to_string(),
                one.relation.clone(),
                one.state.as_str().to_owned(),
                one.values.to_string(),
                or_dash(Some(one.made_at)),
                or_dash(one.former_since),
            ]);
        }
        page.table(&table)?;
        if *unknown > 0 {
            page.toned_line(
                Tone::Bad,
                "unknown: ",
                format_args!("{unknown} values name a key that is not known here and do not open"),
            )?;
        }
        Ok(())
    }
}

/// Somebody else has to agree first.
#[derive(Serialize)]
pub(super) struct Waits {
    #[serde(skip)]
    pub(super) what: String,
    pub(super) approval: Option<ApprovalId>,
    #[serde(skip)]
    pub(super) flag: String,
    pub(super) dry_run: bool,
}

impl Answer for Waits {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { what, approval, flag, .. } = self;
        let Some(id) = approval else {
            return page.line(format_args!("would ask for an approval {what}"));
        };
        page.line(format_args!("approval {id} is asked for {what}"))?;
        page.line(format_args!(
            "look with `tenure approval show {id} {flag}`; once it is given, type this again"
        ))
    }
}

#[derive(Serialize)]
pub(super) struct Done {
    pub(super) what: String,
    pub(super) change: &'static str,
    pub(super) dry_run: bool,
}

impl Answer for Done {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { what, change, dry_run } = self;
        let verb = if *dry_run { "would be" } else { "was" };
        page.line(format_args!("{what} {verb} {change}"))
    }
}

#[derive(Serialize)]
pub(super) struct Detached {
    pub(super) job: JobId,
}

impl Answer for Detached {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!("job {0}: follow it with `tenure job wait {0}`", self.job))
    }
}

#[derive(Serialize)]
pub(super) struct Predicted {
    place: String,
    action: Action,
    counts: Counts,
    faults: Vec<vault::rotation::Fault>,
    /// How long it took to read, open and seal, in milliseconds.
    took_ms: u64,
    /// Values, or keys, a second.
    per_sec: f64,
    /// The rotation does the same and writes besides, in seconds.
    at_least_secs: f64,
    dry_run: bool,
}

impl Predicted {
    pub(super) fn of(place: String, action: Action, predicted: key_rotation::Predicted) -> Self {
        let key_rotation::Predicted { counts, faults, took } = predicted;
        let secs = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let per_sec = if secs > 0.0 { counts.total() as f64 / secs } else { 0.0 };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Self { place, action, counts, faults, took_ms, per_sec, at_least_secs: secs, dry_run: true }
    }
}

impl Answer for Predicted {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { action, counts, per_sec, at_least_secs, .. } = self;
        let what = thing(*action);
        page.line(format_args!("would {action} {} {what}", counts.rotated))?;
        rest(counts, page)?;
        for fault in &self.faults {
            let (key, relation) = (fault.key.join(", "), &fault.relation);
            named(page, relation, &fault.column, &key, fault.reason.as_str())?;
        }
        page.line(format_args!(
            "looked at {per_sec:.0} {what} a second; the rotation takes at least {}",
            age(*at_least_secs)
        ))
    }
}

fn thing(action: Action) -> &'static str {
    match action {
        Action::Rewrap => "keys",
        Action::Reseal => "values",
    }
}

fn rest(counts: &Counts, page: &mut Page<'_>) -> io::Result<()> {
    let Counts { already, null, undecryptable, raced, .. } = counts;
    page.line(format_args!(
        "already {already}, null {null}, written by others meanwhile {raced}, not to be opened {undecryptable}"
    ))
}

fn named(page: &mut Page<'_>, relation: &str, column: &str, key: &str, reason: &str) -> io::Result<()> {
    page.toned_line(Tone::Bad, "does not open: ", format_args!("{relation}.{column} of row {key}: {reason}"))
}

/// What the job has told at its end.
#[derive(Serialize)]
pub(super) struct Rotated {
    job: JobId,
    #[serde(flatten)]
    told: Told,
}

#[derive(Serialize, Deserialize)]
struct Told {
    outcome: String,
    rotation: String,
    action: Action,
    counts: Counts,
    faults: Vec<NamedFault>,
}

#[derive(Serialize, Deserialize)]
struct NamedFault {
    relation: String,
    column: String,
    key: Vec<String>,
    dek: String,
    reason: String,
}

impl Rotated {
    pub(super) fn of(job: JobId, output: &Value) -> serde_json::Result<Self> {
        Ok(Self { job, told: Told::deserialize(output)? })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.told.outcome == "complete"
    }
}

impl Answer for Rotated {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Told { action, counts, faults, .. } = &self.told;
        page.line(format_args!("{action}: {} {}", counts.rotated, thing(*action)))?;
        rest(counts, page)?;
        for fault in faults {
            named(page, &fault.relation, &fault.column, &fault.key.join(", "), &fault.reason)?;
        }
        if counts.rotated == 0 && counts.undecryptable == 0 {
            page.line("nothing is older than --older-than: 0s rotates in any case")?;
        }
        Ok(())
    }
}
