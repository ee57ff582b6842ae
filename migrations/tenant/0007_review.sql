-- What waits for a person's word, and what the word was.

create table tenant.review_case (
    id          bigint      generated always as identity constraint review_case_pk primary key,
    path        bigint      not null constraint review_case_path references tenant.path,
    key         text        collate "C" not null,
    -- What was said of the record, in the state in which it is to be judged.
    decision    bigint      not null constraint review_case_decision references tenant.decision,
    -- What candidates are tried on; none if the record is too large to be kept twice.
    shadow_case bigint      constraint review_case_shadow references tenant.shadow_case,
    -- The case that was closed as stale for this one.
    replaces    bigint      constraint review_case_replaces references tenant.review_case,
    state       text        not null default 'open',
    -- Rises with each change: whoever changes a case names the version that they have seen.
    version     integer     not null default 1,
    assignee    uuid,
    -- What the person wants to stand in the fields that change.
    value       jsonb,
    -- The person's own words; they stay in this database.
    reason      text,
    -- Who closed it; nobody, where the record did.
    closed_by   uuid,
    opened_at   timestamptz not null default now(),
    changed_at  timestamptz not null default now(),
    closed_at   timestamptz,

    constraint review_case_state_known check (state in ('open', 'accepted', 'corrected', 'rejected', 'stale')),
    constraint review_case_closed_has_time check ((state = 'open') = (closed_at is null)),
    constraint review_case_verdict_is_named check (
        (state in ('accepted', 'corrected', 'rejected')) = (reason is not null)
        and (reason is null or closed_by is not null)),
    constraint review_case_value_where_wanted check ((state in ('accepted', 'corrected')) = (value is not null)),
    constraint review_case_value_is_object check (jsonb_typeof(value) = 'object' and value <> '{}'),
    constraint review_case_reason_bounded check (length(reason) between 1 and 2000)
);

-- Two open questions about the same fields of a record would be answered twice.
create unique index review_case_one_open on tenant.review_case (path, key) where state = 'open';
create unique index review_case_one_per_decision on tenant.review_case (decision) where state <> 'stale';
create index review_case_by_record on tenant.review_case (path, key, id);
create index review_case_replaced on tenant.review_case (replaces) where replaces is not null;

-- A case is closed once, each change raises its version by one, and what it is about stays.
create function tenant.guard_review_case() returns trigger
    language plpgsql
as $$
begin
    if old.state <> 'open' then
        raise exception 'case % is % and stays so', old.id, old.state
            using errcode = 'check_violation', constraint = 'review_case_closed_stays';
    end if;
    if new.version <> old.version + 1 then
        raise exception 'a change of case % must raise its version by one', old.id
            using errcode = 'check_violation', constraint = 'review_case_version_rises';
    end if;
    if (new.id, new.path, new.key, new.decision, new.shadow_case, new.replaces, new.opened_at)
        is distinct from (old.id, old.path, old.key, old.decision, old.shadow_case, old.replaces, old.opened_at) then
        raise exception 'what case % is about does not change', old.id
            using errcode = 'check_violation', constraint = 'review_case_is_fixed';
    end if;
    return new;
end
$$;

create trigger review_case_guard before update on tenant.review_case
    for each row execute function tenant.guard_review_case();
create trigger review_case_stays before delete on tenant.review_case
    for each row execute function tenant.refuse_evidence_change();
