//! Charts as inline SVG: no script, no colour of their own (the page's style has those), and everything that they show
//! in words too. All lengths are whole numbers, so that the same figures give the same picture to the byte.

use std::fmt::{self, Write};

use super::{html::Text, view::percent};

const WIDTH: u64 = 7_200;
const HEIGHT: u64 = 2_400;
const LEFT: u64 = 760;
const RIGHT: u64 = 80;
const TOP: u64 = 120;
const BOTTOM: u64 = 320;
const PLOT_WIDTH: u64 = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT: u64 = HEIGHT - TOP - BOTTOM;

/// More labels than this would run into each other.
const LABELS_MAX: usize = 14;

/// What a chart is called and what it says, for those who do not see it.
pub(super) struct Frame<'a> {
    /// Unique on the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    /// Below each place, the first at the left.
    pub(super) labels: &'a [String],
}

/// Parts of a whole that lie on each other, in ten-thousandths, with what a pointer is told.
pub(super) struct Column {
    pub(super) parts: [u64; 3],
    pub(super) told: String,
}

/// The classes of the parts, from the bottom up.
pub(super) const PARTS: [&str; 3] = ["fix", "review", "block"];

/// A column for each place that has one.
pub(super) fn columns(to: &mut String, frame: &Frame<'_>, columns: &[Option<Column>]) -> fmt::Result {
    let most = columns.iter().flatten().map(|column| column.parts.iter().sum()).max().unwrap_or(0);
    let top = ceiling(most);
    begin(to, frame, top)?;
    let slot = slot(columns.len());
    for (column, place) in columns.iter().zip(0..) {
        let Some(column) = column else { continue };
        write!(to, "<g><title>{}</title>", Text(&column.told))?;
        let (x, width) = (LEFT + place * slot + slot * 15 / 100, slot * 70 / 100);
        let mut below = 0;
        for (part, class) in column.parts.into_iter().zip(PARTS) {
            let (low, high) = (height(below, top), height(below + part, top));
            let y = TOP + PLOT_HEIGHT - high;
            write!(to, r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{}"/>"#, high - low)?;
            below += part;
        }
        to.write_str("</g>")?;
    }
    to.write_str("</svg>\n")
}

/// A point for each place that has one, joined where neighbours do, and a line that is to be reached; all in
/// ten-thousandths of the whole.
pub(super) fn line(
    to: &mut String,
    frame: &Frame<'_>,
    floor: u64,
    points: &[Option<(u64, String)>],
) -> fmt::Result {
    let top = 10_000;
    begin(to, frame, top)?;
    let y = TOP + PLOT_HEIGHT - height(floor, top);
    write!(to, r#"<line class="floor" x1="{LEFT}" x2="{}" y1="{y}" y2="{y}"/>"#, WIDTH - RIGHT)?;
    let slot = slot(points.len());
    let at = |place: u64, rate: u64| (LEFT + place * slot + slot / 2, TOP + PLOT_HEIGHT - height(rate, top));
    for (pair, place) in points.windows(2).zip(0..) {
        if let [Some((one, _)), Some((next, _))] = pair {
            let ((x1, y1), (x2, y2)) = (at(place, *one), at(place + 1, *next));
            write!(to, r#"<line class="line" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#)?;
        }
    }
    for (point, place) in points.iter().zip(0..) {
        let Some((rate, told)) = point else { continue };
        let (x, y) = at(place, *rate);
        write!(
            to,
            r#"<circle class="point" cx="{x}" cy="{y}" r="50"><title>{}</title></circle>"#,
            Text(told)
        )?;
    }
    to.write_str("</svg>\n")
}

/// The head, the scale up to `top` and the labels.
fn begin(to: &mut String, frame: &Frame<'_>, top: u64) -> fmt::Result {
    let Frame { id, title, description, labels } = frame;
    write!(
        to,
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}-title {id}-desc">
<title id="{id}-title">{}</title><desc id="{id}-desc">{}</desc>
"#,
        Text(title),
        Text(description)
    )?;
    for rate in [0, top / 2, top] {
        let y = TOP + PLOT_HEIGHT - height(rate, top);
        write!(to, r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y}" y2="{y}"/>"#, WIDTH - RIGHT)?;
        write!(
            to,
            r#"<text class="scale" x="{}" y="{}">{}</text>"#,
            LEFT - 80,
            y + 50,
            Text(&percent(Some(rate)))
        )?;
    }
    let (slot, every) = (slot(labels.len()), labels.len().div_ceil(LABELS_MAX).max(1));
    // The last one is the newest: it has its label, and the others are counted back from it.
    let shown = |place: usize| (labels.len() - 1 - place).is_multiple_of(every);
    for ((number, label), place) in labels.iter().enumerate().zip(0..) {
        if shown(number) {
            let x = LEFT + place * slot + slot / 2;
            write!(to, r#"<text class="label" x="{x}" y="{}">{}</text>"#, HEIGHT - 120, Text(label))?;
        }
    }
    Ok(())
}

fn slot(places: usize) -> u64 {
    PLOT_WIDTH / u64::try_from(places).unwrap_or(u64::MAX).max(1)
}

fn height(rate: u64, top: u64) -> u64 {
    rate.min(top) * PLOT_HEIGHT / top.max(1)
}

/// The next round share, in ten-thousandths.
fn ceiling(most: u64) -> u64 {
    let round = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];
    round.into_iter().find(|top| *top >= most).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["03-14", "03-15", "03-16"].map(str::to_owned).into()
    }

    fn frame(labels: &[String]) -> Frame<'_> {
        Frame { id: "c", title: "<title>", description: "a & b", labels }
    }

    #[test]
    fn parts_lie_on_each_other_and_a_missing_night_has_no_column() {
        let labels = labels();
        let column = |parts| Some(Column { parts, told: "told <here>".to_owned() });
        let mut svg = String::new();
        columns(&mut svg, &frame(&labels), &[column([50, 30, 20]), None, column([0, 0, 0])]).unwrap();
        assert_eq!(svg.matches("<rect").count(), 6);
        // The whole of 1.00 % is as high as the plot; half of it is the lowest part.
        let half = PLOT_HEIGHT / 2;
        assert!(svg.contains(&format!(r#"y="{}" width="1484" height="{half}""#, TOP + half)), "{svg}");
        assert!(
            svg.contains("&lt;title&gt;") && svg.contains("a &amp; b") && svg.contains("told &lt;here&gt;")
        );
        assert!(!svg.contains("<here>") && svg.contains("1.00 %") && svg.contains("03-16"));
    }

    #[test]
    fn neighbours_are_joined_and_a_gap_is_not() {
        let labels = labels();
        let point = |rate| Some((rate, String::new()));
        let count = |points: &[Option<(u64, String)>]| {
            let mut svg = String::new();
            line(&mut svg, &frame(&labels), 8_500, points).unwrap();
            (svg.matches("<circle").count(), svg.matches(r#"class="line""#).count())
        };
        assert_eq!(count(&[point(9_000), None, point(20_000)]), (2, 0));
        assert_eq!(count(&[point(9_000), point(0), point(10_000)]), (3, 2));
    }

    #[test]
    fn a_scale_ends_at_a_round_share_and_a_year_has_room_for_its_labels() {
        let tops = [0, 10, 11, 4_999, 5_001, 10_000].map(ceiling);
        assert_eq!(tops, [10, 10, 20, 5_000, 10_000, 10_000]);
        let labels: Vec<_> = (0..366).map(|day| format!("d{day}")).collect();
        let mut svg = String::new();
        columns(&mut svg, &frame(&labels), &[]).unwrap();
        assert!(svg.matches(r#"class="label""#).count() <= LABELS_MAX && svg.contains(">d365<"));
    }
}
