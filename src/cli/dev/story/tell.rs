//! How the terminal tells the story.

use std::io;

use governance::writeback::{State, Values};

use super::{FIELD, Story, changes::Change};
use crate::cli::{
    candidate,
    output::{Page, Tone},
};

impl Story {
    pub(in crate::cli::dev) fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.night(page)?;
        page.blank()?;
        self.people(page)?;
        page.blank()?;
        self.gate(page)?;
        page.blank()?;
        page.toned_line(Tone::Strong, "changed", ", each accepted by Ada and approved by Ben")?;
        self.changes.iter().try_for_each(|change| change.text(page))?;
        page.blank()?;
        self.proof(page)
    }

    fn night(&self, page: &mut Page<'_>) -> io::Result<()> {
        let governed = &self.governed;
        let what = format!(
            ": {} of {}, by version {} of its rules",
            governed.fields.join(", "),
            governed.stream,
            governed.policy
        );
        page.toned_line(Tone::Strong, "governed", what)?;
        for path in &self.baseline.paths {
            let counts = &path.counts;
            page.line(format_args!(
                "  the night's baseline, with nothing written: of {} records it would fix {}, ask about {}, block {}",
                counts.records, counts.fix, counts.review, counts.block
            ))?;
        }
        Ok(())
    }

    fn people(&self, page: &mut Page<'_>) -> io::Result<()> {
        let words = &self.words;
        page.toned_line(Tone::Strong, "judged", ", before any rule acts")?;
        page.line(format_args!(
            "  Ada judged {} of the fixes that the rules would make: {} right, {} corrected",
            words.judged, words.accepted, words.corrected
        ))?;
        page.line(format_args!("  Ben judged {} of them again without seeing her word", words.confirmed))
    }

    fn gate(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (promotion, candidate) = (&self.promotion, &self.governed.candidate);
        page.toned_line(
            Tone::Strong,
            "tried",
            format_args!(": the candidate {candidate} on the same cases, without effect"),
        )?;
        candidate::print_evaluation(
            page,
            &promotion.evaluation,
            promotion.to,
            "on the evidence that was frozen",
        )?;
        page.line(format_args!(
            "  the CRM as a target was seen to do: {}; {} asked to certify the path, {} approved",
            self.certified.capability, self.certified.asked_by, self.certified.approved_by
        ))?;
        page.line(format_args!(
            "  asked for by {}, approved by {} (approval {}): moved from {} to {}",
            promotion.asked_by, promotion.approved_by, promotion.approval, promotion.from, promotion.to
        ))
    }

    fn proof(&self, page: &mut Page<'_>) -> io::Result<()> {
        let proof = &self.proof;
        page.toned_line(Tone::Strong, "proved", "")?;
        page.line(format_args!("  {} receipts recomputed up to the audit chain", proof.receipts))?;
        page.line(format_args!(
            "  chain of {} entries {} up to the signed checkpoint of {}",
            proof.entries, proof.verdict, proof.anchored
        ))
    }
}

impl Change {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (tone, end) = match self.state {
            State::Verified => (Tone::Good, "read back on another connection: it is there".to_owned()),
            State::Conflict => (
                Tone::Doubtful,
                format!(
                    "somebody wrote {} meanwhile: theirs stays, nothing was sent",
                    self.edit.unwrap_or_default()
                ),
            ),
            State::Mismatch => (
                Tone::Bad,
                format!(
                    "the CRM said yes, and a read of its own still shows {}",
                    shown(self.observed.as_ref())
                ),
            ),
            _ => (Tone::Bad, String::new()),
        };
        page.line(format_args!(
            "  contact {}: {} to {}",
            self.key,
            shown(self.before.as_ref()),
            shown(Some(&self.desired))
        ))?;
        page.toned_line(tone, &format!("    {}", self.state), format_args!(": {end}"))
    }
}

fn shown(values: Option<&Values>) -> String {
    values
        .and_then(|values| values.get(FIELD))
        .map_or_else(|| "nothing".to_owned(), |value| format!("`{}`", value.as_str().unwrap_or_default()))
}
