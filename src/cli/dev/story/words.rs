//! What people say of what the rules would do, before any rule does it.

use std::collections::HashMap;

use database::sample;
use governance::{
    decision::Verdict,
    review::{self, Case, Filter, State, Task, Word},
    shadow,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{ADA, BEN, FIELD, PATH, Stage, changes};
use crate::cli;

/// Cases that Ada judges.
const JUDGED: usize = 40;
/// Cases of these that Ben judges again: more than half.
const CONFIRMED: usize = 24;
const REASON: &str = "as the desk knows it";
/// More cases than the sample has.
const CASES_MAX: i64 = 1_000;

#[derive(Debug, Serialize)]
pub(super) struct Words {
    /// Cases that Ada has judged.
    pub(super) judged: usize,
    /// Those where the rules were right.
    pub(super) accepted: usize,
    /// Those where she knew better.
    pub(super) corrected: usize,
    /// Cases that Ben has judged again without seeing her word, and that he says the same of.
    pub(super) confirmed: usize,
}

/// The right number of each contact, by the record's key.
type Desk = HashMap<String, String>;

impl Stage<'_> {
    /// Opens a case for each fix that the rules would make, and lets people judge some of them.
    pub(super) async fn words(&self) -> anyhow::Result<Words> {
        cli::review::cases(self.db, PATH, true, u64::MAX, false).await?;
        let known = sample::desk(&mut self.crm().await?).await?;
        let desk: Desk = known.into_iter().map(|(id, phone)| (id.to_string(), phone)).collect();
        let cases = self.cases().await?;
        let judged = cases.iter().filter(|case| case.state.is_word()).count();
        let open = cases.iter().filter(|case| case.state == State::Open && !case.is_stale);
        for case in open.take(JUDGED.saturating_sub(judged)) {
            self.judge(case, &desk).await?;
        }
        while self.settled().await? < CONFIRMED && self.confirm(&desk).await? {}
        let cases = self.cases().await?;
        let count = |state| cases.iter().filter(|case| case.state == state).count();
        let (accepted, corrected) = (count(State::Accepted), count(State::Corrected));
        Ok(Words { judged: accepted + corrected, accepted, corrected, confirmed: self.settled().await? })
    }

    /// Cases about which two people said the same.
    async fn settled(&self) -> anyhow::Result<usize> {
        let mut read = self.db.read().await?;
        let settled = shadow::settled(&mut read, PATH).await?;
        read.finish().await?;
        Ok(usize::try_from(settled)?)
    }

    /// The cases on fixes, without those that are told of later.
    async fn cases(&self) -> anyhow::Result<Vec<Case>> {
        let mut write = self.db.write().await?;
        let ada = self.person(&mut write, ADA).await?;
        let filter = Filter { path: Some(PATH), ..Filter::default() };
        let mut cases = review::list(&mut write, filter, CASES_MAX, ada).await?;
        write.commit().await?;
        cases.retain(|case| case.verdict == Verdict::Fix && !changes::is_told_of(&case.key));
        Ok(cases)
    }

    async fn judge(&self, listed: &Case, desk: &Desk) -> anyhow::Result<()> {
        let mut write = self.db.write().await?;
        let ada = self.person(&mut write, ADA).await?;
        let seen = review::view(&mut write, listed.id, ada).await?.map(|view| view.case);
        if let Some((case, right)) = seen.as_ref().and_then(|case| Some((case, desk.get(&case.key)?))) {
            review::decide(&mut write, case.id, case.version, word(case, right), REASON, ada).await?;
        }
        Ok(write.commit().await?)
    }

    /// Ben's word on the next case that Ada decided, which he is not shown; answers whether there was one.
    async fn confirm(&self, desk: &Desk) -> anyhow::Result<bool> {
        let mut write = self.db.write().await?;
        let ben = self.person(&mut write, BEN).await?;
        let next = review::next(&mut write, Some(PATH), Task::Confirm, ben).await?;
        if let Some((case, right)) = next.as_ref().and_then(|case| Some((case, desk.get(&case.key)?))) {
            review::confirm(&mut write, case.id, word(case, right), REASON, ben).await?;
        }
        write.commit().await?;
        Ok(next.is_some())
    }
}

/// What somebody says who knows the right number.
fn word(case: &Case, right: &str) -> Word {
    let proposed = case.proposed.as_ref().and_then(|values| values.get(FIELD)?.as_str());
    if proposed == Some(right) {
        return Word::Accept;
    }
    Word::Correct(Map::from_iter([(FIELD.to_owned(), Value::from(right))]))
}
