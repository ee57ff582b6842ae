-- A row or more in every table of a tenant's database that leaves it, with values that are hard to write down. Triggers and
-- references are not asked while this is written; an import asks the references.
set session_replication_role = replica;

insert into governance.actor (id, name, person) values
    ('00000000-0000-4000-8000-0000000000a1', 'ada', '00000000-0000-4000-8000-0000000000a1'),
    ('00000000-0000-4000-8000-0000000000b2', '=ben()', '00000000-0000-4000-8000-0000000000b2'),
    ('00000000-0000-4000-8000-0000000000c3', null, '00000000-0000-4000-8000-0000000000a1');
select governance.append('test.happened', '00000000-0000-4000-8000-0000000000a1', n, '{"n":' || n || '}') from generate_series(1, 9) n;
insert into governance.gate (class, persons, window_secs, approvers) values
    ('promotion', 2, 3600, '{00000000-0000-4000-8000-0000000000a1,00000000-0000-4000-8000-0000000000b2}'),
    ('tenant_delete', 1, 60, null);
with plan as (select convert_to('{"x":"1"}', 'UTF8') as plan),
     bound as (select plan, convert_to('{"action":"promotion","plan":"' || encode(sha256(plan), 'hex') || '"}', 'UTF8') as content from plan)
insert into governance.approval (class, name, content, digest, plan, requested_by, requested_person, persons, window_secs, state, ended_at)
select 'promotion', 'fixer', content, sha256(content), plan, '00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000a1', 1, 86400, 'denied', now() from bound;
insert into governance.approval_decision (approval, digest, person, verdict, given_at)
select id, digest, '00000000-0000-4000-8000-0000000000b2', 'no', now() from governance.approval;

insert into tenant.connector (name, definition) values ('crm', e'name = "crm"\nkind = "postgres"\n');
insert into tenant.sync_state (connector, stream, state) values ('crm', 'contacts', '{"cursor": 9007199254740993}');
insert into tenant.record (connector, stream, key, cursor, digest, data, deleted_at) values
    ('crm', 'contacts', '7', '2026-01-01', 'd1', '{"email": "ada@example.org", "n": 123456789012345678901234567890.000001, "é": null}', null),
    ('crm', 'contacts', E'a"b,c\td\\e\nf', null, 'd2', '"a text"', '-infinity'),
    ('crm', 'contacts', 'É', null, 'd3', 'null', 'infinity'),
    ('crm', 'contacts', '', null, '', '[1.50, true, {"deep": [[]]}]', null),
    ('crm', 'contacts', '=1+1', null, '\N', '{"quote": "\"", "line": "a\nb", "control": "\u0001"}', null);
insert into tenant.record (connector, stream, key, digest, data)
select 'crm', 'many', n::text, md5(n::text), jsonb_build_object('n', n, 'text', repeat('x', n % 50)) from generate_series(1, 3000) n;
insert into tenant.rejected_record (connector, stream, digest, key, reason, detail, excerpt) values
    ('crm', 'contacts', 'd', null, 'too_large', 'no', E'\t tab');
insert into tenant.sync_run (job, connector, stream, warnings, report) values (9223372036854775807, 'crm', 'contacts', '{"a \"warning\"",NULL,"{x}"}', '{}');

insert into tenant.path (name, connector, stream, fields, created_by) values
    ('email', 'crm', 'contacts', '{email,"odd \"field\", {x}"}', '00000000-0000-4000-8000-0000000000a1');
insert into tenant.path_step (path, number, from_state, to_state, by_actor, evidence) values
    (1, 1, 'catalogued', 'probed', '00000000-0000-4000-8000-0000000000a1', '{"n": 0.1}');
insert into tenant.policy (path, version, text, digest, created_by) values (1, 1, 'x', sha256('x'), '00000000-0000-4000-8000-0000000000a1');
insert into tenant.decision (path, policy_version, input_digest, key, record_digest, evidence_digest, verdict, class, confidence, proposed, reason) values
    (1, 1, sha256('i'), '7', 'd1', sha256('e'), 'fix', 'c', 90, '{"email": "b"}', '@because');
insert into tenant.candidate (name, path, digest, definition, phase, generation, snapshot, created_by) values
    ('fixer', 'email', sha256('{}'), '{}', 'assist', 1, sha256('s'), '00000000-0000-4000-8000-0000000000a1');
insert into tenant.gate_snapshot (digest, candidate, from_phase, to_phase, generation, answer, evaluation, bytes, frozen_at) values
    (sha256('s'), 1, 'off', 'assist', 0, 'eligible', '{}', 's', now());
insert into tenant.candidate_move (candidate, generation, from_phase, to_phase, actor, snapshot, approval, reason) values
    (1, 1, 'off', 'assist', '00000000-0000-4000-8000-0000000000a1', sha256('s'), '1', 'why not');
insert into tenant.promotion_rule (path, rules, set_by) values
    ('email', '{"runs_min": 30, "agree_percent_min": 85, "scored_percent_min": 50}', '00000000-0000-4000-8000-0000000000a1');
insert into tenant.shadow_case (path, input_digest, connector, stream, key, original, input) values
    ('email', sha256('i'), 'crm', 'contacts', '7', '{"email": "a"}', '{"email": "a"}');
insert into tenant.shadow_baseline (case_id, number, verdict, value, actor) values (1, 1, 'fix', '{"email": "b"}', '00000000-0000-4000-8000-0000000000a1');
insert into tenant.shadow_truth (case_id, source, verdict, value) values (1, 'observed', 'fix', '{}');
insert into tenant.shadow_run (candidate, case_id, verdict, value, job) values (1, 1, 'fix', '{}', 5);
insert into tenant.review_case (path, key, decision, shadow_case, state, closed_at) values (1, '7', 1, 1, 'stale', now());
insert into tenant.review_case (path, key, decision, shadow_case, replaces) values (1, '7', 1, 1, 1);
insert into tenant.review_confirmation (review_case, actor, word, value, reason) values
    (1, '00000000-0000-4000-8000-0000000000b2', 'accepted', '{"email": "b"}', 'yes');
insert into tenant.review_seen (review_case, actor) values (1, '00000000-0000-4000-8000-0000000000b2');
insert into tenant.target_capability (connector, stream, definition, capability, evidence) values
    ('crm', 'contacts', sha256('d'), 'conditional_write', '{"saw \"it\"","a,b"}');
insert into tenant.writeback (path, connector, stream, key, class, plan, digest, desired, policy_version, policy_digest, confidence, evidence, requested_by) values
    ('email', 'crm', 'contacts', '7', 'c', 'p', sha256('p'), '{"email": "b"}', 1, sha256('x'), 90, sha256('e'), '00000000-0000-4000-8000-0000000000a1');
insert into tenant.writeback (path, connector, stream, key, class, plan, digest, desired, policy_version, policy_digest, confidence, evidence, requested_by, compensates) values
    ('email', 'crm', 'contacts', '8', 'c', 'p', sha256('p'), '{"email": "a"}', 1, sha256('x'), 90, sha256('e'), '00000000-0000-4000-8000-0000000000a1', 1);
insert into tenant.writeback_step (writeback, number, to_state) values (1, 1, 'planned');
insert into tenant.writeback_drift (writeback, standing, observed) values (1, 'other', '{}');
insert into tenant.wish (decision, requested_by, state, writeback, settled_at) values (1, '00000000-0000-4000-8000-0000000000a1', 'planned', 1, now());
insert into tenant.baseline_run (job, night, streams) values (9, '2026-03-01', '[]');
insert into tenant.baseline_path (run, path, pages, policy_version, is_done, counts) values (9, 1, 1, 1, true, '{}');
insert into tenant.readiness_scan (job, report, blocking) values (9, '{"findings": []}', 0);
insert into tenant.receipt_batch (batch, seq, size, root) values (nextval('tenant.receipt_batch_number'), 1, 1, sha256('r'));
insert into tenant.receipt (batch, position, leaf, content, subject) values (1, 0, sha256('l'), 'content', 'decision/1');

set session_replication_role = origin;
