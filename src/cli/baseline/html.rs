//! The nights as a page for a browser: one file without a script and without anything from elsewhere, light or dark as
//! the reader has it, each chart with a table beside it. Whatever comes from data is escaped.

use std::fmt::{self, Display, Write};

use jobs::nightly_baseline::{
    CandidateResult, Direction, PathWindow, Point, Report, STEADY_BP, Trend, Window, basis_points,
};

use super::{
    chart::{self, Column, Frame},
    view::{gate, percent, points, wants},
};

/// Text between tags or in a quoted attribute.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The page.
pub(super) fn page(tenant: &str, window: &Window) -> String {
    let mut html = String::new();
    write(&mut html, tenant, window).expect("memory takes everything");
    html
}

fn write(to: &mut String, tenant: &str, window: &Window) -> fmt::Result {
    let Window { from, to: last, .. } = window;
    let tenant = Text(tenant);
    write!(
        to,
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Baseline of {tenant}, {from} to {last}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
<h1>Baseline of {tenant}</h1>
<p>{from} to {last}, days in UTC. These runs wrote nothing to any target.</p>
"#,
        STYLE = include_str!("page.css")
    )?;
    match window.latest() {
        Some(latest) => body(to, window, latest)?,
        None => to.write_str(
            "<p>No baseline was run in these days: <code>tenure baseline run</code> does one.</p>\n",
        )?,
    }
    to.write_str("</main>\n</body>\n</html>\n")
}

fn body(to: &mut String, window: &Window, latest: &Report) -> fmt::Result {
    standing(to, latest)?;
    let labels: Vec<_> = window.nights.iter().map(|night| night.night.format("%m-%d").to_string()).collect();
    for (path, number) in window.paths.iter().zip(1..) {
        of_path(to, window, &labels, path, &format!("path-{number}"))?;
    }
    rules(to, latest)?;
    for (candidate, number) in latest.candidates.iter().zip(1..) {
        of_candidate(to, window, &labels, candidate, &format!("candidate-{number}"))?;
    }
    streams(to, latest)?;
    nights(to, window)?;
    let half = window.nights.len() / 2;
    writeln!(
        to,
        "<footer><p>A record has an issue if the rules would fix, review or block it. A trend is the issue rate of the \
         first {half} days beside that of the last {}: all issues over all records of the half. A change below {} points \
         is steady.</p></footer>",
        window.nights.len() - half,
        points(i64::try_from(STEADY_BP).ok()).trim_start_matches('+')
    )
}

/// How the newest night ended.
fn standing(to: &mut String, latest: &Report) -> fmt::Result {
    let (class, at) = (latest.outcome.name(), latest.finished_at.format("%F %H:%M UTC"));
    write!(to, r#"<p>Last run: <strong class="{class}">{class}</strong>, {at}.</p>"#)?;
    for path in latest.paths.iter().filter(|path| path.wanted > 0) {
        write!(to, "\n<p>{}.</p>", Text(&wants(path)))?;
    }
    let failures = latest.failures();
    if failures.is_empty() {
        return to.write_str("\n");
    }
    to.write_str("\n<ul class=\"failures\">\n")?;
    for failure in failures {
        writeln!(to, "<li>{}</li>", Text(&failure))?;
    }
    to.write_str("</ul>\n")
}

fn of_path(to: &mut String, window: &Window, labels: &[String], path: &PathWindow, id: &str) -> fmt::Result {
    let trend = sentence(path.trend);
    let title = format!("Issue rate of {} by night", path.path);
    write!(to, "<section>\n<h2>{}</h2>\n<p>{trend}</p>\n<div class=\"pair\">\n<figure>\n", Text(&path.path))?;
    let nights = || window.nights.iter().map(|night| night.night.to_string()).zip(&path.nights);
    let columns: Vec<_> =
        nights().map(|(night, point)| point.as_ref().map(|it| column(&night, it))).collect();
    chart::columns(to, &Frame { id, title: &title, description: &trend, labels }, &columns)?;
    to.write_str("<figcaption>")?;
    for (class, name) in chart::PARTS.into_iter().zip(["would be fixed", "for people", "blocked"]) {
        write!(to, r#"<span class="key {class}"></span> {name} "#)?;
    }
    to.write_str("</figcaption>\n</figure>\n")?;
    let rows = nights().map(|(night, point)| {
        let numbers = |it: &Point| [it.records, it.fix, it.review, it.block].map(|count| count.to_string());
        let mut row = vec![night];
        match point {
            Some(point) => row.extend(numbers(point).into_iter().chain([percent(point.issue_rate_bp)])),
            None => row.extend([const { "" }; 5].map(str::to_owned)),
        }
        row
    });
    table(to, &title, &["Night", "Records", "Fix", "Review", "Block", "Rate"], rows)?;
    to.write_str("</div>\n</section>\n")
}

fn column(night: &str, point: &Point) -> Column {
    let Point { records, fix, review, block, issue_rate_bp } = *point;
    let rate = percent(issue_rate_bp);
    Column {
        parts: [fix, review, block].map(|part| basis_points(part, records).unwrap_or(0)),
        told: format!(
            "{night}: {rate} of {records} records: {fix} to fix, {review} for people, {block} blocked"
        ),
    }
}

fn sentence(trend: Trend) -> String {
    let Trend { direction, first_half_bp, second_half_bp, change_bp } = trend;
    let (first, second, change) = (percent(first_half_bp), percent(second_half_bp), points(change_bp));
    match direction {
        Direction::Unknown => "Too few nights to compare the two halves.".to_owned(),
        _ => format!(
            "{}: {first} in the first half, {second} in the second ({change} points).",
            direction.name()
        ),
    }
}

fn rules(to: &mut String, latest: &Report) -> fmt::Result {
    let rows = latest.paths.iter().flat_map(|path| {
        path.counts.rules.iter().map(|rule| {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let (verdict, records) = (rule.verdict.to_string(), rule.records.to_string());
            vec![path.path.clone(), or_dash(&rule.rule), or_dash(&rule.class), verdict, records]
        })
    });
    to.write_str("<section>\n<h2>Rules</h2>\n")?;
    table(to, "Issues of the last run, by rule", &["Path", "Rule", "Class", "Verdict", "Records"], rows)?;
    to.write_str("</section>\n")
}

fn of_candidate(
    to: &mut String,
    window: &Window,
    labels: &[String],
    latest: &CandidateResult,
    id: &str,
) -> fmt::Result {
    let name = &latest.candidate;
    let title = format!("Agreement of {name} with people, by night");
    let (phase, says) = (latest.phase, gate(latest));
    let description = format!("In phase {phase} on {}. The gate said in the last run: {says}.", latest.path);
    write!(
        to,
        "<section>\n<h2>{}</h2>\n<p>{}</p>\n<div class=\"pair\">\n<figure>\n",
        Text(name),
        Text(&description)
    )?;
    let of = |report: &Report| report.candidates.iter().find(|it| it.candidate == *name).cloned();
    let nights = || window.nights.iter().map(|it| (it.night.to_string(), it.report.as_ref().and_then(of)));
    let points: Vec<_> = nights()
        .map(|(night, found)| {
            let evaluated = found?.evaluation?;
            let rate = evaluated.agreement_bp?;
            Some((rate, format!("{night}: {} of {} runs", percent(Some(rate)), evaluated.runs)))
        })
        .collect();
    chart::line(
        to,
        &Frame { id, title: &title, description: &description, labels },
        AGREE_FLOOR_BP,
        &points,
    )?;
    to.write_str("<figcaption>the dashed line is the gate's floor for agreement</figcaption>\n</figure>\n")?;
    let rows = nights().map(|(night, found)| {
        let Some(found) = found else {
            return [night].into_iter().chain([const { String::new() }; 6]).collect();
        };
        let [runs, agree, scored] = match &found.evaluation {
            Some(it) => [
                it.runs.to_string(),
                format!("{} ({})", it.agree, percent(it.agreement_bp)),
                it.scored.to_string(),
            ],
            None => ["-"; 3].map(str::to_owned),
        };
        vec![night, found.ran.to_string(), found.errors.to_string(), runs, agree, scored, gate(&found)]
    });
    let header = ["Night", "Ran", "Errors", "Runs in all", "Agree", "Scored", "The gate says"];
    table(to, &title, &header, rows)?;
    to.write_str("</div>\n</section>\n")
}

/// The gate's own floor, whatever a path asks on top.
const AGREE_FLOOR_BP: u64 = governance::promotion::AGREE_PERCENT_FLOOR.unsigned_abs() * 100;

fn streams(to: &mut String, latest: &Report) -> fmt::Result {
    let rows = latest.streams.iter().map(|stream| {
        let counts = stream.counts.as_ref();
        let counts = counts.map_or([const { String::new() }; 4], |it| {
            [it.read, it.written, it.rejected, it.deleted].map(|count| count.to_string())
        });
        let head = [stream.name(), stream.outcome.clone(), stream.class.clone().unwrap_or_default()];
        head.into_iter().chain(counts).collect()
    });
    to.write_str("<section>\n<h2>Sources</h2>\n")?;
    let header = ["Stream", "Outcome", "Class", "Read", "Written", "Rejected", "Deleted"];
    table(to, "What the last run read", &header, rows)?;
    to.write_str("</section>\n")
}

fn nights(to: &mut String, window: &Window) -> fmt::Result {
    let rows = window.nights.iter().map(|night| {
        let outcome = night.report.as_ref().map_or("no report", |report| report.outcome.name());
        vec![night.night.to_string(), outcome.to_owned(), night.runs.to_string()]
    });
    to.write_str("<section>\n<h2>Nights</h2>\n")?;
    table(to, "Every night of the window; its last run stands for it", &["Night", "Outcome", "Runs"], rows)?;
    to.write_str("</section>\n")
}

fn table(
    to: &mut String,
    caption: &str,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> fmt::Result {
    write!(to, "<table>\n<caption>{}</caption>\n<thead><tr>", Text(caption))?;
    for name in header {
        write!(to, r#"<th scope="col">{}</th>"#, Text(name))?;
    }
    to.write_str("</tr></thead>\n<tbody>\n")?;
    for row in rows {
        to.write_str("<tr>")?;
        for (cell, number) in row.iter().zip(0..) {
            // Figures stand under each other by their last digit.
            let class = if cell.starts_with(|c: char| c.is_ascii_digit()) { r#" class="n""# } else { "" };
            match number {
                0 => write!(to, r#"<th scope="row">{}</th>"#, Text(cell))?,
                _ => write!(to, "<td{class}>{}</td>", Text(cell))?,
            }
        }
        to.write_str("</tr>\n")?;
    }
    to.write_str("</tbody>\n</table>\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A report as it is stored, of a night with so many issues and with names that would be tags.
    fn report(run: u32, night: &str, fix: u64) -> Report {
        serde_json::from_value(json!({
            "run": run.to_string(), "night": night, "started_at": format!("{night}T02:00:00Z"),
            "finished_at": format!("{night}T02:01:00Z"), "outcome": "incomplete",
            "streams": [{"connector": "<crm>", "stream": "contacts", "outcome": "failed", "class": "transient",
                "why": "\"down\" & out", "counts": null}],
            "paths": [{"path": "e<mail>", "policy": 1, "why": null, "issue_rate_bp": fix, "records": 10_000, "changed": 0,
                "fix": fix, "review": 5, "block": 0, "failed": 0, "opened": 0, "stale": 0,
                "rules": [{"rule": "</table>", "class": null, "verdict": "fix", "records": fix}]}],
            "candidates": [{"candidate": "rules", "path": "e<mail>", "phase": "off", "ran": 3, "errors": 0, "why": null,
                "evaluation": {"to": "assist", "answer": "insufficient", "snapshot": "00".repeat(32), "runs": 3,
                    "agree": 3, "scored": 0, "agreement_bp": 10_000, "findings": []}}],
        }))
        .unwrap()
    }

    fn shown() -> String {
        let window = Window::of(
            "2026-03-15".parse().unwrap(),
            14,
            vec![report(1, "2026-03-10", 400), report(2, "2026-03-15", 100)],
        );
        page("ac<me>", &window)
    }

    #[test]
    fn what_comes_from_data_is_escaped_wherever_it_stands() {
        let html = shown();
        for planted in ["<crm>", "e<mail>", "ac<me>", "\"down\" & out"] {
            assert!(!html.contains(planted), "{planted} stands there as it came");
        }
        for escaped in
            ["&lt;crm&gt;", "e&lt;mail&gt;", "ac&lt;me&gt;", "&quot;down&quot; &amp; out", "&lt;/table&gt;"]
        {
            assert!(html.contains(escaped), "{escaped} is missing");
        }
        assert_eq!(Text("\u{0}\u{1b}[2J'").to_string(), "\u{fffd}\u{fffd}[2J&#39;");
    }

    #[test]
    fn the_page_needs_nothing_else_and_its_charts_have_words() {
        let html = shown();
        for foreign in ["<script", "http://", "https://", "src=", "<link", "@import", "url(", "javascript:"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.contains("prefers-color-scheme: dark") && html.contains("<html lang=\"en\">"));
        let charts = html.matches("<svg ").count();
        assert_eq!(charts, 2);
        for words in [r#"role="img""#, "</desc>", "aria-labelledby="] {
            assert_eq!(html.matches(words).count(), charts, "{words}");
        }
        // Every night of every chart stands in the table beside it: two charts and the list of nights.
        assert_eq!(html.matches(r#"<th scope="row">2026-03-1"#).count(), 3 * 6);
        assert!(html.contains("4.05 %") && html.contains("1.05 %"), "the rates are told");
    }

    #[test]
    fn tags_are_closed_in_their_order() {
        let html = shown();
        let void = ["meta", "!doctype"];
        let mut open: Vec<&str> = Vec::new();
        for tag in html.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            let name = tag.trim_start_matches('/').split(char::is_whitespace).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "in {open:?}");
            } else if !tag.ends_with('/') && !void.contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_window_without_reports_says_so() {
        let html = page("acme", &Window::of("2026-03-15".parse().unwrap(), 14, Vec::new()));
        assert!(html.contains("tenure baseline run") && !html.contains("<svg"));
    }
}
