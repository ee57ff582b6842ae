//! A night, and the nights, for a terminal.

use std::io;

use jobs::nightly_baseline::{
    CandidateResult, NightOfWindow, PathResult, PathWindow, Report, STEADY_BP, StreamResult, Trend, Window,
    basis_points,
};

use super::super::output::{Page, Table, Tone};

const AT: &str = "%H:%M:%S";
const DASH: &str = "-";

/// One night.
pub(crate) fn report(page: &mut Page<'_>, tenant: &str, report: &Report) -> io::Result<()> {
    let tone = if report.is_complete() { Tone::Good } else { Tone::Bad };
    let (from, to) = (report.started_at.format(AT), report.finished_at.format(AT));
    let what = format!(": the baseline of {tenant} in the night of {}, {from} to {to} UTC", report.night);
    page.toned_line(tone, report.outcome.name(), what)?;
    page.line("the run wrote nothing to any target")?;
    page.blank()?;
    streams(page, &report.streams)?;
    page.blank()?;
    paths(page, &report.paths)?;
    page.blank()?;
    candidates(page, &report.candidates)?;
    for failure in report.failures() {
        page.toned_line(Tone::Bad, "failed: ", failure)?;
    }
    Ok(())
}

fn streams(page: &mut Page<'_>, streams: &[StreamResult]) -> io::Result<()> {
    if streams.is_empty() {
        return page.line("no connector is registered: `tenure connector sync FILE` registers and reads one");
    }
    let mut table = Table::new(["STREAM", "OUTCOME", "READ", "WRITTEN", "REJECTED", "DELETED"]);
    for stream in streams {
        let counts = stream.counts.as_ref().map_or([const { String::new() }; 4], |it| {
            [it.read, it.written, it.rejected, it.deleted].map(|count| count.to_string())
        });
        let [read, written, rejected, deleted] = counts;
        table.row(&[stream.name(), stream.outcome.clone(), read, written, rejected, deleted]);
    }
    page.table(&table)
}

fn paths(page: &mut Page<'_>, paths: &[PathResult]) -> io::Result<()> {
    if paths.is_empty() {
        return page.line("no path is governed: `tenure path create` makes one");
    }
    let mut table = Table::new([
        "PATH",
        "POLICY",
        "RECORDS",
        "CHANGED",
        "WOULD FIX",
        "REVIEW",
        "BLOCK",
        "ISSUES",
        "CASES",
    ]);
    for path in paths {
        let counts = &path.counts;
        let numbers = [counts.records, counts.changed, counts.fix, counts.review, counts.block];
        let [records, changed, fix, review, block] = numbers.map(|count| count.to_string());
        let policy = path.policy.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let rate = percent(path.issue_rate_bp);
        let cases = format!("{} opened, {} stale", counts.opened, counts.stale);
        table.row(&[path.path.clone(), policy, records, changed, fix, review, block, rate, cases]);
    }
    page.table(&table)?;
    for path in paths.iter().filter(|path| path.policy.is_none() && path.why.is_none()) {
        page.line(format_args!("{} has no policy: `tenure policy add FILE`", path.path))?;
    }
    for path in paths.iter().filter(|path| path.wanted > 0) {
        page.line(wants(path))?;
    }
    rules(page, paths)
}

/// What policy alone wants of a path.
pub(super) fn wants(path: &PathResult) -> String {
    let changes = if path.wanted == 1 { "1 change is" } else { &format!("{} changes are", path.wanted) };
    format!(
        "{changes} wanted on {} by policy alone: `tenure writeback list` shows what becomes of them",
        path.path
    )
}

fn rules(page: &mut Page<'_>, paths: &[PathResult]) -> io::Result<()> {
    if paths.iter().all(|path| path.counts.rules.is_empty()) {
        return Ok(());
    }
    page.blank()?;
    let mut table = Table::new(["PATH", "RULE", "CLASS", "VERDICT", "RECORDS"]);
    for path in paths {
        for rule in &path.counts.rules {
            let name = rule.rule.clone().unwrap_or_else(|| "(no rule)".to_owned());
            let class = rule.class.clone().unwrap_or_else(|| DASH.to_owned());
            let (verdict, records) = (rule.verdict.to_string(), rule.records.to_string());
            table.row(&[path.path.clone(), name, class, verdict, records]);
        }
    }
    page.table(&table)
}

fn candidates(page: &mut Page<'_>, candidates: &[CandidateResult]) -> io::Result<()> {
    if candidates.is_empty() {
        return page
            .line("no candidate is tried: `tenure candidate create` enters a policy's version as one");
    }
    let mut table = Table::new([
        "CANDIDATE",
        "PATH",
        "PHASE",
        "RAN",
        "ERRORS",
        "RUNS",
        "AGREE",
        "SCORED",
        "THE GATE SAYS",
    ]);
    for one in candidates {
        let [runs, agree, scored] = match &one.evaluation {
            Some(it) => {
                let agree = format!("{} ({})", it.agree, percent(it.agreement_bp));
                [it.runs.to_string(), agree, it.scored.to_string()]
            }
            None => [DASH; 3].map(str::to_owned),
        };
        let (ran, errors) = (one.ran.to_string(), one.errors.to_string());
        let (name, path, phase) = (one.candidate.clone(), one.path.clone(), one.phase.to_string());
        table.row(&[name, path, phase, ran, errors, runs, agree, scored, gate(one)]);
    }
    page.table(&table)
}

/// What the gate said of a candidate.
pub(super) fn gate(one: &CandidateResult) -> String {
    match &one.evaluation {
        Some(it) => format!("{} for {}", it.answer.name(), it.to),
        None if one.why.is_some() => "not asked: something failed".to_owned(),
        None => "there is no phase above".to_owned(),
    }
}

/// The nights side by side, then the newest of them.
pub(super) fn window(page: &mut Page<'_>, tenant: &str, window: &Window) -> io::Result<()> {
    let Window { from, to, nights, paths } = window;
    page.toned_line(Tone::Strong, tenant, format_args!(", {from} to {to}, days in UTC"))?;
    let Some(latest) = window.latest() else {
        return page.line("no baseline was run in these days: `tenure baseline run` does one now");
    };
    page.blank()?;
    let mut table = Table::new(["NIGHT", "OUTCOME", "RUNS", "RECORDS", "ISSUES", "RATE"]);
    for night in nights {
        table.row(&row(night));
    }
    page.table(&table)?;
    if !paths.is_empty() {
        page.blank()?;
        let mut table = Table::new(["PATH", "NIGHTS", "FIRST HALF", "SECOND HALF", "CHANGE", "TREND"]);
        for path in paths {
            let Trend { direction, first_half_bp, second_half_bp, change_bp } = path.trend;
            let (first, second, change) =
                (percent(first_half_bp), percent(second_half_bp), points(change_bp));
            table.row(&[
                path.path.clone(),
                sparkline(path),
                first,
                second,
                change,
                direction.name().to_owned(),
            ]);
        }
        page.table(&table)?;
        let half = nights.len() / 2;
        page.line(format_args!(
            "the trend: the issue rate of the first {half} days beside that of the last {}; a change below {} points is steady",
            nights.len() - half,
            points(i64::try_from(STEADY_BP).ok()).trim_start_matches('+')
        ))?;
    }
    page.blank()?;
    report(page, tenant, latest)
}

fn row(night: &NightOfWindow) -> [String; 6] {
    let Some(report) = &night.report else {
        let mut row = [DASH; 6].map(str::to_owned);
        (row[0], row[2]) = (night.night.to_string(), "0".to_owned());
        return row;
    };
    let records: u64 = report.paths.iter().map(|path| path.counts.records).sum();
    let issues: u64 = report.paths.iter().map(|path| path.counts.issues()).sum();
    let (outcome, rate) = (report.outcome.name().to_owned(), percent(basis_points(issues, records)));
    let runs = night.runs.to_string();
    [night.night.to_string(), outcome, runs, records.to_string(), issues.to_string(), rate]
}

/// A bar for each night, the highest as high as a line; a dot where there is no report.
fn sparkline(path: &PathWindow) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let rates = || path.nights.iter().map(|night| night.and_then(|point| point.issue_rate_bp));
    let most = rates().flatten().max().unwrap_or(0).max(1);
    let bar = |rate: u64| BARS[usize::try_from(rate * 7 / most).unwrap_or(7).min(7)];
    rates().map(|rate| rate.map_or('·', bar)).collect()
}

/// Ten-thousandths as per cent.
pub(super) fn percent(bp: Option<u64>) -> String {
    bp.map_or_else(|| DASH.to_owned(), |bp| format!("{}.{:02} %", bp / 100, bp % 100))
}

/// A change in ten-thousandths as points of per cent.
pub(super) fn points(bp: Option<i64>) -> String {
    let told = |bp: i64| {
        let sign = match bp {
            ..0 => "-",
            0 => "",
            1.. => "+",
        };
        format!("{sign}{}.{:02}", bp.unsigned_abs() / 100, bp.unsigned_abs() % 100)
    };
    bp.map_or_else(|| DASH.to_owned(), told)
}

#[cfg(test)]
mod tests {
    use jobs::nightly_baseline::{Direction, Point};

    use super::*;

    #[test]
    fn rates_and_changes_are_told_in_per_cent() {
        assert_eq!(
            [0, 5, 123, 10_000].map(|bp| percent(Some(bp))),
            ["0.00 %", "0.05 %", "1.23 %", "100.00 %"]
        );
        assert_eq!([-105, -5, 0, 7].map(|bp| points(Some(bp))), ["-1.05", "-0.05", "0.00", "+0.07"]);
        assert_eq!((percent(None), points(None)), ("-".to_owned(), "-".to_owned()));
        assert_eq!([basis_points(1, 0), basis_points(1, 3)], [None, Some(3_333)]);
    }

    #[test]
    fn a_sparkline_has_a_bar_for_each_night_and_a_dot_for_none() {
        let point = |bp| Point { records: 1, fix: 0, review: 0, block: 0, issue_rate_bp: bp };
        let nights = vec![
            None,
            Some(point(Some(0))),
            Some(point(Some(50))),
            Some(point(Some(100))),
            Some(point(None)),
        ];
        let trend = Trend {
            direction: Direction::Unknown,
            first_half_bp: None,
            second_half_bp: None,
            change_bp: None,
        };
        let path = PathWindow { path: "p".to_owned(), nights, trend };
        assert_eq!(sparkline(&path), "·▁▄█·");
    }
}
