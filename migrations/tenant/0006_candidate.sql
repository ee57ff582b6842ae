-- Automations and the evidence about them: candidates, the cases they are tried on, what people and reality said of those
-- cases, and the frozen snapshots by which a candidate may move up.

-- What is written once stays as it is.
create function tenant.refuse_evidence_change() returns trigger
    language plpgsql
as $$
begin
    raise exception '% of tenant.% is refused: its rows are evidence', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create function tenant.phase_rank(phase text) returns integer
    language sql immutable strict parallel safe
    return array_position(array['off', 'assist', 'autonomous'], phase);

create table tenant.candidate (
    id         bigint      generated always as identity constraint candidate_pk primary key,
    name       text        not null constraint candidate_name_unique unique,
    path       text        not null,
    digest     bytea       not null constraint candidate_digest_unique unique,
    -- Canonical JSON of everything that can change its behaviour. Another definition is another candidate.
    definition bytea       not null,
    phase      text        not null default 'off',
    -- How often the phase was set. A promotion must find the number that its evidence was frozen with.
    generation bigint      not null default 0,
    -- The evidence on which a phase above off rests.
    snapshot   bytea,
    created_by uuid        not null,
    created_at timestamptz not null default now(),

    constraint candidate_name_bounded check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    constraint candidate_digest_is_of_definition check (digest = sha256(definition)),
    constraint candidate_phase_known check (phase in ('off', 'assist', 'autonomous')),
    constraint candidate_active_has_evidence check (phase = 'off' or snapshot is not null)
);

-- Two that write the same fields would undo each other's work.
create unique index candidate_one_active_per_path on tenant.candidate (path) where phase <> 'off';

-- What a gate looked at, to the byte, and what it said.
create table tenant.gate_snapshot (
    digest     bytea       not null constraint gate_snapshot_pk primary key,
    candidate  bigint      not null constraint gate_snapshot_candidate references tenant.candidate,
    from_phase text        not null,
    to_phase   text        not null,
    generation bigint      not null,
    answer     text        not null,
    evaluation jsonb       not null,
    bytes      bytea       not null,
    frozen_at  timestamptz not null,
    job        bigint,

    constraint gate_snapshot_digest_is_of_bytes check (digest = sha256(bytes)),
    constraint gate_snapshot_is_one_up check (tenant.phase_rank(to_phase) = tenant.phase_rank(from_phase) + 1),
    constraint gate_snapshot_answer_known check (answer in ('eligible', 'insufficient', 'disagree', 'vetoed'))
);

create index gate_snapshot_by_candidate on tenant.gate_snapshot (candidate, frozen_at);

create trigger gate_snapshot_stays before update or delete on tenant.gate_snapshot
    for each row execute function tenant.refuse_evidence_change();

alter table tenant.candidate
    add constraint candidate_snapshot_kept foreign key (snapshot) references tenant.gate_snapshot;

-- The three floors (G1), counted from the rows of a snapshot's bytes: not the program's word for it.
create function tenant.gate_floors_hold(bytes bytea) returns boolean
    language sql immutable strict parallel safe
as $$
    with document as (select convert_from(bytes, 'UTF8')::jsonb as d),
    run as (
        select r ->> 'input' as input, r -> 'candidate' as said, r -> 'truth' -> 'opinion' as truth,
            r -> 'error' = 'null' and r -> 'candidate' <> 'null' and r -> 'candidate' = r -> 'baseline' as same,
            coalesce((r -> 'truth' ->> 'at')::bigint <= (d ->> 'frozen_at')::bigint, false) as scored
        from document, jsonb_array_elements(d -> 'runs') as r
    ),
    counted as (
        select count(distinct input) as runs, count(*) filter (where scored) as scored,
            count(*) filter (where same and not (scored and truth <> said)) as agree, count(*) as rows
        from run
    )
    select rows = runs and runs >= 30 and 100 * agree >= 85 * runs and 2 * scored >= runs from counted
$$;

-- One phase up at a time, and only on evidence frozen since the phase was last set (G1, G7, G8); down without any (G6).
create function tenant.guard_candidate() returns trigger
    language plpgsql
as $$
declare
    step integer;
begin
    if tg_op = 'INSERT' then
        if new.phase <> 'off' or new.generation <> 0 then
            raise exception 'a candidate begins in phase off'
                using errcode = 'check_violation', constraint = 'candidate_begins_off';
        end if;
        return new;
    end if;
    if (new.id, new.name, new.path, new.digest) is distinct from (old.id, old.name, old.path, old.digest) then
        raise exception 'a candidate does not change: create another one'
            using errcode = 'check_violation', constraint = 'candidate_is_fixed';
    end if;
    step := tenant.phase_rank(new.phase) - tenant.phase_rank(old.phase);
    if step > 1 then
        raise exception 'a candidate cannot go from % to %', old.phase, new.phase
            using errcode = 'check_violation', constraint = 'candidate_skips_no_phase';
    end if;
    if step <> 0 and new.generation <= old.generation then
        raise exception 'a new phase needs a new generation'
            using errcode = 'check_violation', constraint = 'candidate_generation_rises';
    end if;
    if step = 1 and not exists (
        select from tenant.gate_snapshot s
        where s.digest = new.snapshot and s.candidate = old.id and s.generation = old.generation
          and s.from_phase = old.phase and s.to_phase = new.phase and s.answer = 'eligible'
          and tenant.gate_floors_hold(s.bytes)
    ) then
        raise exception 'a candidate moves up by an eligible snapshot of what it is now'
            using errcode = 'check_violation', constraint = 'candidate_moves_up_on_evidence';
    end if;
    return new;
end
$$;

create trigger candidate_guard before insert or update on tenant.candidate
    for each row execute function tenant.guard_candidate();

-- Each time a phase was set: by whom, on what evidence, with whose yes.
create table tenant.candidate_move (
    candidate  bigint      not null constraint candidate_move_candidate references tenant.candidate,
    generation bigint      not null,
    from_phase text        not null,
    to_phase   text        not null,
    actor      uuid        not null,
    snapshot   bytea       constraint candidate_move_snapshot references tenant.gate_snapshot,
    approval   text,
    reason     text,
    moved_at   timestamptz not null default now(),

    constraint candidate_move_pk primary key (candidate, generation),
    constraint candidate_move_up_is_approved check (
        tenant.phase_rank(to_phase) <= tenant.phase_rank(from_phase)
        or (approval is not null and snapshot is not null)
    )
);

create trigger candidate_move_stays before update or delete on tenant.candidate_move
    for each row execute function tenant.refuse_evidence_change();

-- What a path asks of its candidates beyond the floors.
create table tenant.promotion_rule (
    path   text        not null constraint promotion_rule_pk primary key,
    rules  jsonb       not null,
    set_by uuid        not null,
    set_at timestamptz not null default now(),

    constraint promotion_rule_is_no_laxer check (
        coalesce((rules ->> 'runs_min')::bigint >= 30, false)
        and coalesce((rules ->> 'agree_percent_min')::bigint >= 85, false)
        and coalesce((rules ->> 'scored_percent_min')::bigint >= 50, false)
    )
);

-- A record as it was when somebody was to decide: candidates that come later are tried on the same.
create table tenant.shadow_case (
    id           bigint      generated always as identity constraint shadow_case_pk primary key,
    path         text        not null,
    input_digest bytea       not null,
    connector    text        not null,
    stream       text        not null,
    key          text        collate "C" not null,
    -- The path's fields, each with its value; what a fix's value is laid upon.
    original     jsonb       not null,
    -- All that a candidate is shown.
    input        jsonb       not null,
    -- Since when the record carries what we wrote: from then on its changes say nothing about people.
    written_at   timestamptz,
    frozen_at    timestamptz not null default now(),

    constraint shadow_case_unique unique (path, input_digest),
    constraint shadow_case_digest_is_sha256 check (octet_length(input_digest) = 32),
    constraint shadow_case_original_is_object check (jsonb_typeof(original) = 'object')
);

create index shadow_case_by_record on tenant.shadow_case (connector, stream, key);

-- What people said of a case. The first is the baseline, the second shows how far people agree with themselves.
create table tenant.shadow_baseline (
    case_id bigint      not null constraint shadow_baseline_case references tenant.shadow_case,
    number  smallint    not null,
    verdict text        not null,
    value   jsonb,
    actor   uuid        not null,
    said_at timestamptz not null default now(),

    constraint shadow_baseline_pk primary key (case_id, number),
    constraint shadow_baseline_counts_from_one check (number >= 1),
    constraint shadow_baseline_verdict_known check (verdict in ('fix', 'review', 'block', 'none')),
    constraint shadow_baseline_fix_has_value check ((verdict = 'fix') = (value is not null))
);

create trigger shadow_baseline_stays before update or delete on tenant.shadow_baseline
    for each row execute function tenant.refuse_evidence_change();

-- What turned out right.
create table tenant.shadow_truth (
    case_id  bigint      not null constraint shadow_truth_case references tenant.shadow_case,
    source   text        not null,
    verdict  text        not null,
    value    jsonb,
    actor    uuid,
    known_at timestamptz not null default now(),

    constraint shadow_truth_pk primary key (case_id, source),
    constraint shadow_truth_source_known check (source in ('reviewer', 'observed')),
    constraint shadow_truth_reviewer_is_named check ((source = 'reviewer') = (actor is not null)),
    constraint shadow_truth_verdict_known check (verdict in ('fix', 'review', 'block', 'none')),
    constraint shadow_truth_fix_has_value check ((verdict = 'fix') = (value is not null))
);

-- One evaluation of a candidate on a case. The first stands, whatever came of it.
create table tenant.shadow_run (
    candidate bigint      not null constraint shadow_run_candidate references tenant.candidate,
    case_id   bigint      not null constraint shadow_run_case references tenant.shadow_case,
    verdict   text,
    value     jsonb,
    class     text,
    error     text,
    job       bigint      not null,
    ran_at    timestamptz not null default now(),

    constraint shadow_run_pk primary key (candidate, case_id),
    constraint shadow_run_verdict_known check (verdict in ('fix', 'review', 'block', 'none')),
    constraint shadow_run_fix_has_value check ((verdict is not distinct from 'fix') = (value is not null)),
    constraint shadow_run_error_known check (error in ('failed', 'timeout', 'panicked', 'write_refused')),
    constraint shadow_run_verdict_or_error check ((verdict is null) = (error is not null))
);

create index shadow_run_by_case on tenant.shadow_run (case_id);

create trigger shadow_run_stays before update or delete on tenant.shadow_run
    for each row execute function tenant.refuse_evidence_change();

-- Truth by observation: a sync changes governed fields of a record that has a case, so people have changed them in the
-- source. The first change within two weeks counts; a later one is more likely to be news about the world than about the
-- case. Set-wise, in the sync's own transaction; a stream without cases pays one look.
create function tenant.observe_truth() returns trigger
    language plpgsql
as $$
begin
    insert into tenant.shadow_truth (case_id, source, verdict, value)
    select c.id, 'observed', 'fix',
        (select jsonb_object_agg(f, coalesce(n.data -> f, 'null')) from jsonb_object_keys(c.original) as f)
    from new_rows n join old_rows o using (connector, stream, key)
        join tenant.shadow_case c using (connector, stream, key)
    where c.written_at is null and n.deleted_at is null and c.frozen_at > now() - interval '14 days'
      and exists (select from jsonb_object_keys(c.original) as f where n.data -> f is distinct from o.data -> f)
    order by c.id
    on conflict (case_id, source) do nothing;
    return null;
end
$$;

create trigger record_observe_truth after update on tenant.record
    referencing old table as old_rows new table as new_rows
    for each statement execute function tenant.observe_truth();
