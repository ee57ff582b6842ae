//! The comparison as Markdown: a table per mode, and what is reached and what is not.

use std::fmt::Write;

use crate::{
    compare::{Comparison, Measured},
    figure::{Figure, Spread},
    system::System,
    trial::Mode,
};

/// What is to be reached, as a multiple of the fastest peer.
const TO_REACH: [(Figure, f64); 2] = [(Figure::ClaimToFinishPerSec, 2.5), (Figure::EnqueuePerSec, 1.8)];

/// One table per mode, then the list of what is not ahead.
pub(crate) fn markdown(comparison: &Comparison, systems: &[System], description: &str) -> String {
    let mut text = format!("{description}\n\n");
    for system in systems {
        let _ = writeln!(text, "- **{}**: {}", system.title(), system.does());
    }
    for (mode, measured) in comparison {
        let _ = write!(text, "\n## {}\n\n", mode.name());
        text += &table(*mode, systems, |system| &measured[&system]);
    }
    text
}

fn table<'a>(mode: Mode, systems: &[System], measured: impl Fn(System) -> &'a Measured) -> String {
    let mut text = String::from("| median (least–most) |");
    for system in systems {
        let _ = write!(text, " {} |", system.title());
    }
    let is_compared = systems.contains(&System::Tenure) && systems.len() > 1;
    text += if is_compared { " Tenure is ahead by |\n|---|" } else { "\n|---|" };
    text += &"---|".repeat(systems.len() + usize::from(is_compared));
    text.push('\n');
    let mut remarks = Vec::new();
    for figure in Figure::ALL {
        let _ = write!(text, "| {} |", figure.title());
        for &system in systems {
            let _ = write!(text, " {} |", cell(figure, measured(system).figures.get(&figure)));
        }
        if is_compared {
            let lead = lead(figure, systems, &measured);
            let _ = write!(text, " {} |", lead.map_or("–".to_owned(), |lead| format!("× {lead:.2}")));
            remarks.extend(remark(figure, lead, mode));
        }
        text.push('\n');
    }
    for &system in systems {
        remarks.extend(
            measured(system)
                .errors
                .iter()
                .map(|error| format!("{}, a round broke off: {error}", system.title())),
        );
    }
    for remark in remarks {
        let _ = write!(text, "\n- {remark}");
    }
    text + "\n"
}

pub(crate) fn cell(figure: Figure, spread: Option<&Spread>) -> String {
    spread.map_or("–".to_owned(), |s| {
        let [median, min, max] = [s.median, s.min, s.max].map(|value| figure.format(value));
        if min == max { median } else { format!("{median} ({min}–{max})") }
    })
}

/// How many times better Tenure's median is than the best of the others; below 1 it is behind.
fn lead<'a>(figure: Figure, systems: &[System], measured: &impl Fn(System) -> &'a Measured) -> Option<f64> {
    let cost =
        |system: &System| measured(*system).figures.get(&figure).map(|spread| figure.cost(spread.median));
    let others = systems.iter().filter(|system| **system != System::Tenure).filter_map(cost);
    Some(others.min_by(f64::total_cmp)? / cost(&System::Tenure)?)
}

fn remark(figure: Figure, lead: Option<f64>, mode: Mode) -> Option<String> {
    let lead = lead?;
    let to_reach = TO_REACH.into_iter().find(|(of, _)| *of == figure && mode == Mode::Clean);
    match to_reach {
        Some((_, factor)) if lead >= factor => {
            Some(format!("{}: × {factor} of the fastest peer was to be reached, and is", figure.title()))
        }
        Some((_, factor)) => Some(format!(
            "{}: × {factor} of the fastest peer was to be reached, and is **not**",
            figure.title()
        )),
        None if lead < 1.0 => Some(format!("{}: Tenure is **behind** the best peer", figure.title())),
        None => None,
    }
}
