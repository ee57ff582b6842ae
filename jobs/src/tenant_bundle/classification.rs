//! What may leave of each table, column by column, and what stays, with the reason. Nothing leaves that is not here: a
//! table or a column that nobody has entered fails the export by its name (E4).

/// How a column leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// As it is, but for secrets of connectors that are found in it.
    Data,
    /// The same, and passwords in URLs are cut out: text of ours or of others about something that happened.
    Note,
    /// The text of a connector's definition, which may hold secrets.
    Definition,
}

/// What becomes of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Kept(Kept),
    /// It stays, for this reason.
    Excluded(&'static str),
}

/// A table in the bundle. Columns are named in one text, with blanks between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    data: &'static str,
    notes: &'static str,
    definitions: &'static str,
    /// Which rows: a condition in which `$tenant` stands for the tenant's id, and `t` for the table. None: all.
    pub(super) rows: Option<&'static str>,
}

/// A table and its fate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relation {
    /// With its schema.
    pub(super) name: &'static str,
    pub(super) fate: Fate,
}

impl Kept {
    /// How the column of this name leaves; none if nobody has said so.
    pub(super) fn class(&self, column: &str) -> Option<Class> {
        let is_among = |names: &str| names.split_whitespace().any(|name| name == column);
        [(self.data, Class::Data), (self.notes, Class::Note), (self.definitions, Class::Definition)]
            .into_iter()
            .find_map(|(names, class)| is_among(names).then_some(class))
    }

    #[cfg(test)]
    pub(super) fn columns(&self) -> impl Iterator<Item = &'static str> {
        [self.data, self.notes, self.definitions].into_iter().flat_map(str::split_whitespace)
    }
}

impl Relation {
    const fn kept(name: &'static str, data: &'static str) -> Self {
        Self { name, fate: Fate::Kept(Kept { data, notes: "", definitions: "", rows: None }) }
    }

    const fn excluded(name: &'static str, reason: &'static str) -> Self {
        Self { name, fate: Fate::Excluded(reason) }
    }

    const fn notes(self, notes: &'static str) -> Self {
        self.with(notes, "", None)
    }

    const fn definitions(self, definitions: &'static str) -> Self {
        self.with("", definitions, None)
    }

    const fn rows(self, rows: &'static str) -> Self {
        self.with("", "", Some(rows))
    }

    const fn with(
        mut self,
        notes: &'static str,
        definitions: &'static str,
        rows: Option<&'static str>,
    ) -> Self {
        if let Fate::Kept(kept) = &mut self.fate {
            if !notes.is_empty() {
                kept.notes = notes;
            }
            if !definitions.is_empty() {
                kept.definitions = definitions;
            }
            if rows.is_some() {
                kept.rows = rows;
            }
        }
        self
    }
}

/// Of rows that name the tenant.
const OF_TENANT: &str = "t.tenant = $tenant";

/// Of rows that name a job of the tenant, living or finished.
macro_rules! of_jobs {
    ($column:literal) => {
        concat!(
            "t.",
            $column,
            " in (select id from queue.job where tenant = $tenant union all \
             select id from queue.job_history where tenant = $tenant)"
        )
    };
}

/// Why keys stay.
const KEYS: &str = "keys and their rotations: what they seal opens nowhere else";

/// The tenant's own database.
pub(super) const TENANT: &[Relation] = &[
    Relation::kept("governance.actor", "id name person created_at"),
    Relation::kept(
        "governance.approval",
        "id class name content digest plan requested_by requested_person requested_at waiting_job persons window_secs \
         alone state ended_at ended_by consumed_by_job",
    ),
    Relation::kept("governance.approval_decision", "approval digest person verdict alone given_at"),
    Relation::kept("governance.audit_entry", "seq at approval content hash"),
    Relation::kept("governance.audit_head", "only_row origin"),
    Relation::kept("governance.checkpoint", "size head root peaks note made_at"),
    Relation::excluded("governance.dek", KEYS),
    Relation::kept("governance.gate", "class persons window_secs approvers"),
    Relation::kept("governance.gate_mode", "only_row single_admin"),
    Relation::excluded("governance.kek", KEYS),
    Relation::excluded("governance.key_rotation", KEYS),
    Relation::excluded("governance.key_rotation_fault", KEYS),
    Relation::excluded("governance.migration", "which migrations have run; the manifest has their numbers"),
    Relation::excluded(
        "tenant.applied_step",
        "which steps of jobs are done: means something only to the installation that runs the jobs",
    ),
    Relation::kept("tenant.baseline_path", "run path pages policy_version after is_done counts"),
    Relation::kept("tenant.baseline_run", "job night started_at finished_at").notes("streams report"),
    Relation::kept(
        "tenant.candidate",
        "id name path digest definition phase generation snapshot created_by created_at",
    ),
    Relation::kept(
        "tenant.candidate_move",
        "candidate generation from_phase to_phase actor snapshot approval moved_at",
    )
    .notes("reason"),
    Relation::kept("tenant.connector", "name registered_at").definitions("definition"),
    Relation::excluded(
        "tenant.connector_credential",
        "credentials: they are entered anew where the tenant is restored",
    ),
    Relation::kept(
        "tenant.decision",
        "id path policy_version input_digest key record_digest evidence_digest verdict rule class confidence proposed \
         reason decided_at failed",
    ),
    Relation::kept(
        "tenant.gate_snapshot",
        "digest candidate from_phase to_phase generation answer evaluation bytes frozen_at job",
    ),
    Relation::excluded(
        "tenant.job_fence",
        "which attempt of a job may write: means something only to the installation that runs the jobs",
    ),
    Relation::excluded("tenant.migration", "which migrations have run; the manifest has their numbers"),
    Relation::kept(
        "tenant.path",
        "id name connector stream fields state daily_cap breaker_limit created_by created_at",
    ),
    Relation::kept("tenant.path_step", "path number from_state to_state by_actor approval evidence at approval_id"),
    Relation::kept("tenant.policy", "path version text digest created_by created_at"),
    Relation::excluded("tenant.probe_effect", "what proofs of the installation wrote; nothing of the tenant's"),
    Relation::excluded("tenant.probe_sighting", "what proofs of the installation saw; nothing of the tenant's"),
    Relation::kept("tenant.promotion_rule", "path rules set_by set_at"),
    Relation::excluded("tenant.rate_bucket", "when a source may be asked again; over within minutes"),
    Relation::kept("tenant.readiness_scan", "job blocking scanned_at").notes("report"),
    Relation::kept("tenant.receipt", "batch position former leaf content subject"),
    Relation::kept("tenant.receipt_batch", "batch seq size root issued_at"),
    Relation::kept(
        "tenant.record",
        "connector stream key cursor digest data first_seen_at changed_at deleted_at",
    ),
    Relation::kept(
        "tenant.rejected_record",
        "connector stream digest key reason excerpt times first_seen_at last_seen_at",
    )
    .notes("detail"),
    Relation::kept(
        "tenant.review_case",
        "id path key decision shadow_case replaces state version assignee value closed_by opened_at changed_at closed_at",
    )
    .notes("reason"),
    Relation::kept("tenant.review_confirmation", "review_case actor word value said_at").notes("reason"),
    Relation::kept("tenant.review_seen", "review_case actor seen_at"),
    Relation::kept("tenant.shadow_baseline", "case_id number verdict value actor said_at"),
    Relation::kept(
        "tenant.shadow_case",
        "id path input_digest connector stream key original input written_at frozen_at",
    ),
    Relation::kept("tenant.shadow_run", "candidate case_id verdict value class error job ran_at"),
    Relation::kept("tenant.shadow_truth", "case_id source verdict value actor known_at"),
    Relation::excluded("tenant.stamp", "whose database it is: the manifest has the tenant, and an import its own"),
    Relation::kept(
        "tenant.sync_run",
        "job connector stream step read written unchanged repeated rejected deleted null_cursor started_at finished_at",
    )
    .notes("warnings report"),
    Relation::kept("tenant.sync_state", "connector stream updated_at").notes("state"),
    Relation::kept("tenant.target_capability", "connector stream definition capability probed_at")
        .notes("obstacle evidence"),
    Relation::kept("tenant.wish", "decision review_case requested_by state writeback reason wished_at settled_at")
        .notes("detail"),
    Relation::kept(
        "tenant.writeback",
        "id path connector stream key class plan digest before validator desired policy_version policy_digest confidence \
         evidence requested_by accepted_by compensates state steps approval candidate generation idempotency_key sends \
         reads sent_nothing observed rest_before rest_after reason receipt intent_job intent_at ended_at created_at \
         drift_checked_at definition",
    )
    .notes("detail"),
    Relation::kept("tenant.writeback_drift", "writeback standing observed first_seen_at last_seen_at ended_at"),
    Relation::kept("tenant.writeback_step", "writeback number from_state to_state reason actor job at").notes("detail"),
];

/// Why the platform's own accounts stay.
const PLATFORM: &str = "the installation's own, about all tenants and the people who run it";

/// What the control database holds on the tenant.
pub(super) const CONTROL: &[Relation] = &[
    Relation::kept(
        "control.deletion",
        "id tenant state approval requested_by requested_at cooling_off_secs cooled_at begun_at ended_at ended_by",
    )
    .notes("note")
    .rows(OF_TENANT),
    Relation::excluded("control.deletion_step", "what a deletion has done: there is none that could still be exported"),
    Relation::kept("control.legal_hold", "id tenant placed_by placed_at until released_at released_by")
        .notes("reason")
        .rows(OF_TENANT),
    Relation::excluded("control.migration", "which migrations have run; the manifest has their numbers"),
    Relation::kept(
        "control.tenant",
        "id name region state database_name role_name schema_version created_at active_since",
    )
    .rows("t.id = $tenant"),
    Relation::excluded("control.tombstone", "what is left of a tenant: there is none that could still be exported"),
    Relation::excluded("governance.actor", PLATFORM),
    Relation::excluded("governance.approval", PLATFORM),
    Relation::excluded("governance.approval_decision", PLATFORM),
    // Entries have ids and digests only: what the platform's chain says of the tenant is the tenant's to know.
    Relation::kept("governance.audit_entry", "seq at approval content hash")
        .rows("convert_from(t.content, 'UTF8')::json -> 'body' ->> 'tenant' = $tenant::text"),
    Relation::excluded("governance.audit_head", PLATFORM),
    Relation::excluded("governance.checkpoint", PLATFORM),
    Relation::excluded("governance.dek", PLATFORM),
    Relation::excluded("governance.gate", PLATFORM),
    Relation::excluded("governance.gate_mode", PLATFORM),
    Relation::excluded("governance.kek", PLATFORM),
    Relation::excluded("governance.key_rotation", PLATFORM),
    Relation::excluded("governance.key_rotation_fault", PLATFORM),
    Relation::excluded("governance.migration", "which migrations have run; the manifest has their numbers"),
    Relation::kept("queue.attempt", "job fence started_at finished_at worker number outcome class")
        .notes("error")
        .rows(of_jobs!("job")),
    Relation::excluded("queue.bulk", "what operators did to jobs of all tenants; queue.bulk_outcome has the tenant's"),
    Relation::kept("queue.bulk_outcome", "operation job fence state outcome is_live reason").rows(of_jobs!("job")),
    Relation::kept("queue.cap", "queue tenant each_tenant running_max").rows(OF_TENANT),
    Relation::excluded("queue.crash_charge", "which process a job's crash is blamed on, until that is heard of again"),
    Relation::kept("queue.dependency", "waiter parent settled_at policy outcome").rows(of_jobs!("waiter")),
    Relation::kept("queue.fire", "schedule fire_at inserted_at job how")
        .rows("t.schedule in (select id from queue.schedule where tenant = $tenant)"),
    Relation::kept("queue.frozen_tenant", "tenant frozen_at frozen_by").notes("reason").rows(OF_TENANT),
    Relation::excluded("queue.governed", PLATFORM),
    Relation::kept("queue.idempotency_key", "scope key job digest expires_at").rows(of_jobs!("job")),
    Relation::kept(
        "queue.job",
        "id fence run_at created_at started_at lease_expires_at worker state priority attempt attempts_max failures \
         losses crashes reason suspect checkpointed cancel_requested tenant queue kind unique_key traceparent \
         governed rate_key awaited",
    )
    .notes("payload note progress")
    .rows(OF_TENANT),
    Relation::kept(
        "queue.job_history",
        "id fence run_at created_at started_at finished_at worker outcome priority attempt attempts_max failures losses \
         crashes tenant queue kind unique_key traceparent rate_key",
    )
    .notes("payload note output")
    .rows(OF_TENANT),
    Relation::excluded("queue.migration", "which migrations have run; the manifest has their numbers"),
    Relation::excluded("queue.pause", PLATFORM),
    Relation::excluded("queue.queue", PLATFORM),
    Relation::excluded("queue.rate", "how often jobs with a key may start, whoever they are of"),
    Relation::kept("queue.reason_change", "job fence at due_at started_at until reason")
        .notes("evidence")
        .rows(of_jobs!("job")),
    Relation::kept(
        "queue.schedule",
        "id created_at updated_at considered_at next_fire_at paused_at missed_total jitter_secs missed_max missed priority \
         attempts_max tenant name cron zone kind queue unique_key paused_by",
    )
    .notes("payload pause_reason fault")
    .rows(OF_TENANT),
    Relation::excluded("queue.turn", "whose turn it was last; over within seconds"),
    Relation::kept("queue.weight", "tenant weight").rows(OF_TENANT),
    Relation::excluded("queue.worker", PLATFORM),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_table_and_every_column_is_entered_once_and_in_order() {
        for relations in [TENANT, CONTROL] {
            assert!(relations.is_sorted_by_key(|relation| relation.name), "sort the tables by name");
            for relation in relations {
                let Fate::Kept(kept) = relation.fate else { continue };
                let mut seen = HashSet::new();
                for column in kept.columns() {
                    assert!(seen.insert(column), "{}.{column} is entered twice", relation.name);
                }
            }
            let names: HashSet<_> = relations.iter().map(|relation| relation.name).collect();
            assert_eq!(names.len(), relations.len());
        }
    }
}
