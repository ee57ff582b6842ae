-- Changes that are sent to targets: each a state machine whose arrows are committed rows, what targets were seen to be
-- able to do, and what became of verified changes later.

-- What a target was seen to do when it was tried. Another definition is another target.
create table tenant.target_capability (
    connector  text        not null,
    stream     text        not null,
    definition bytea       not null, -- digest of the definition that was tried
    capability text        not null,
    obstacle   text, -- why no write can succeed
    evidence   text[]      not null,
    probed_at  timestamptz not null default now(),

    constraint target_capability_pk primary key (connector, stream),
    constraint target_capability_definition_is_sha256 check (octet_length(definition) = 32),
    constraint target_capability_known check (
        capability in ('conditional_write', 'idempotency_key', 'read_check', 'blind'))
);

create table tenant.writeback (
    id              bigint      generated always as identity constraint writeback_pk primary key,
    path            text        not null,
    connector       text        not null,
    stream          text        not null,
    key             text        collate "C" not null,
    class           text        not null, -- the action class, as policies name it

    -- The plan: its canonical bytes, and what they say as values that can be sent. It never changes.
    plan            bytea       not null,
    digest          bytea       not null,
    before          jsonb, -- null: the change creates the record
    validator       text,
    desired         jsonb       not null,
    policy_version  integer     not null,
    policy_digest   bytea       not null,
    confidence      smallint    not null,
    evidence        bytea       not null, -- what it was decided on: the input's digest
    requested_by    uuid        not null,
    accepted_by     uuid, -- the person who accepted this very change; null where policy alone asks for it
    compensates     bigint      constraint writeback_compensates references tenant.writeback,

    state           text        not null default 'planned',
    steps           integer     not null default 0,
    approval        bigint, -- none where the gate asks for nobody
    candidate       text, -- in force when the intent was written, with its generation
    generation      bigint,
    idempotency_key bytea,
    sends           integer     not null default 0,
    reads           integer     not null default 0, -- since the state was entered
    sent_nothing    boolean     not null default false, -- the values were there already when we came
    observed        jsonb, -- what the last read-back saw of the fields
    rest_before     text, -- digest of all other fields at the intent, and at the last read-back
    rest_after      text,
    reason          text, -- why it is where it is, as a word of ours
    detail          text, -- the same in words; may quote the target
    receipt         text, -- the latest
    intent_job      bigint,
    intent_at       timestamptz,
    ended_at        timestamptz,
    created_at      timestamptz not null default now(),
    drift_checked_at timestamptz,

    constraint writeback_digest_is_of_plan check (digest = sha256(plan)),
    constraint writeback_policy_digest_is_sha256 check (octet_length(policy_digest) = 32),
    constraint writeback_evidence_is_sha256 check (octet_length(evidence) = 32),
    constraint writeback_confidence_is_percent check (confidence between 0 and 100),
    constraint writeback_desired_is_object check (jsonb_typeof(desired) = 'object' and desired <> '{}'),
    constraint writeback_before_is_object check (jsonb_typeof(before) = 'object'),
    constraint writeback_state_known check (state in (
        'planned', 'approved', 'intent', 'held', 'sent', 'unknown',
        'verified', 'mismatch', 'conflict', 'not_applied', 'compensated', 'accepted')),
    -- Nothing leaves before its intent is durable.
    constraint writeback_intent_is_complete check (
        (idempotency_key is null) = (intent_at is null) and (idempotency_key is null) = (intent_job is null)
        and (state in ('planned', 'approved', 'conflict', 'not_applied', 'accepted') or idempotency_key is not null)),
    constraint writeback_key_is_sha256 check (octet_length(idempotency_key) = 32),
    constraint writeback_sends_follow_intent check (sends = 0 or idempotency_key is not null),
    -- A read-back saw it, and nothing else says so.
    constraint writeback_verified_was_read check (state <> 'verified' or (observed is not null and reads > 0)),
    constraint writeback_ended_has_time check (
        (state in ('verified', 'mismatch', 'conflict', 'not_applied', 'compensated', 'accepted')) = (ended_at is not null))
);

-- One change of a record at a time: a second would be planned on values that the first is about to replace.
create unique index writeback_one_open_per_record on tenant.writeback (connector, stream, key)
    where state in ('planned', 'approved', 'intent', 'held', 'sent', 'unknown');
create index writeback_open on tenant.writeback (id)
    where state in ('planned', 'approved', 'intent', 'held', 'sent', 'unknown');
create index writeback_by_path on tenant.writeback (path, intent_at);
create index writeback_to_watch on tenant.writeback (id) where state = 'verified';
create unique index writeback_compensated_once on tenant.writeback (compensates)
    where state not in ('conflict', 'not_applied', 'mismatch', 'accepted');

-- Each arrow that was taken.
create table tenant.writeback_step (
    writeback  bigint      not null constraint writeback_step_writeback references tenant.writeback,
    number     integer     not null,
    from_state text,
    to_state   text        not null,
    reason     text,
    detail     text,
    actor      uuid,
    job        bigint,
    at         timestamptz not null default clock_timestamp(),

    constraint writeback_step_pk primary key (writeback, number)
);

-- No other arrow exists, whatever a program believes.
create function tenant.writeback_arrow_exists(from_state text, to_state text) returns boolean
    language sql immutable strict parallel safe
    return (from_state, to_state) in (
        ('planned', 'approved'), ('planned', 'conflict'), ('planned', 'not_applied'),
        ('approved', 'intent'), ('approved', 'conflict'), ('approved', 'not_applied'),
        ('intent', 'held'), ('intent', 'sent'), ('intent', 'unknown'), ('intent', 'conflict'), ('intent', 'not_applied'),
        ('held', 'intent'), ('held', 'conflict'), ('held', 'not_applied'),
        ('sent', 'verified'), ('sent', 'mismatch'), ('sent', 'conflict'),
        ('unknown', 'verified'), ('unknown', 'intent'), ('unknown', 'mismatch'), ('unknown', 'conflict'),
        ('verified', 'compensated'),
        ('mismatch', 'verified'), ('mismatch', 'accepted'),
        ('conflict', 'accepted'));

create function tenant.guard_writeback() returns trigger
    language plpgsql
as $$
declare
    planned tenant.writeback := new;
begin
    if tg_op = 'INSERT' then
        if new.state <> 'planned' or new.steps <> 0 then
            raise exception 'a writeback begins as planned'
                using errcode = 'check_violation', constraint = 'writeback_begins_planned';
        end if;
        return new;
    end if;
    planned.state := old.state;
    planned.steps := old.steps;
    planned.approval := old.approval;
    planned.candidate := old.candidate;
    planned.generation := old.generation;
    planned.idempotency_key := old.idempotency_key;
    planned.sends := old.sends;
    planned.reads := old.reads;
    planned.sent_nothing := old.sent_nothing;
    planned.observed := old.observed;
    planned.rest_before := old.rest_before;
    planned.rest_after := old.rest_after;
    planned.reason := old.reason;
    planned.detail := old.detail;
    planned.receipt := old.receipt;
    planned.intent_job := old.intent_job;
    planned.intent_at := old.intent_at;
    planned.ended_at := old.ended_at;
    planned.drift_checked_at := old.drift_checked_at;
    if planned is distinct from old then
        raise exception 'the plan of writeback % does not change', old.id
            using errcode = 'check_violation', constraint = 'writeback_plan_is_fixed';
    end if;
    if old.idempotency_key is not null and new.idempotency_key is distinct from old.idempotency_key then
        raise exception 'writeback % is sent under one key', old.id
            using errcode = 'check_violation', constraint = 'writeback_key_is_fixed';
    end if;
    if old.approval is not null and new.approval is distinct from old.approval then
        raise exception 'writeback % has one approval', old.id
            using errcode = 'check_violation', constraint = 'writeback_approval_is_fixed';
    end if;
    if new.state <> old.state
        and (not tenant.writeback_arrow_exists(old.state, new.state) or new.steps <> old.steps + 1) then
        raise exception 'a writeback does not go from % to %', old.state, new.state
            using errcode = 'check_violation', constraint = 'writeback_arrow_exists';
    end if;
    return new;
end
$$;

create trigger writeback_guard before insert or update on tenant.writeback
    for each row execute function tenant.guard_writeback();

create function tenant.refuse_writeback_change() returns trigger
    language plpgsql
as $$
begin
    raise exception '% of tenant.% is refused: writebacks are kept as they were', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger writeback_is_kept before delete on tenant.writeback
    for each row execute function tenant.refuse_writeback_change();
create trigger writeback_step_stays before update or delete on tenant.writeback_step
    for each row execute function tenant.refuse_writeback_change();

-- A verified change whose fields no longer hold what was verified.
create table tenant.writeback_drift (
    writeback     bigint      not null constraint writeback_drift_writeback references tenant.writeback,
    standing      text        not null,
    observed      jsonb, -- null where the record is gone
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now(),
    ended_at      timestamptz, -- it holds again

    constraint writeback_drift_pk primary key (writeback, first_seen_at),
    constraint writeback_drift_standing_known check (standing in ('before', 'other', 'gone'))
);

create unique index writeback_drift_one_open on tenant.writeback_drift (writeback) where ended_at is null;
