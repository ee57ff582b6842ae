-- From a person's word to the truth about a case, and from an accepted change to its writeback.

-- Whether two persons said this of a case, each by the first word that they gave on it.
create function tenant.two_persons_said(named bigint, said text, wanted jsonb) returns boolean
    language sql stable
as $$
    select count(*) >= 2 from (
        select distinct on (actor) verdict, value from tenant.shadow_baseline
        where case_id = named order by actor, number
    ) first
    where verdict = said and value::text is not distinct from wanted::text
$$;

-- What one person said alone, twice or not, was never truth.
delete from tenant.shadow_truth where source = 'reviewer' and not tenant.two_persons_said(case_id, verdict, value);

create function tenant.guard_truth() returns trigger
    language plpgsql
as $$
begin
    if new.source = 'reviewer' and not tenant.two_persons_said(new.case_id, new.verdict, new.value) then
        raise exception 'two persons have not said this of case %', new.case_id
            using errcode = 'check_violation', constraint = 'shadow_truth_needs_two_persons';
    end if;
    return new;
end
$$;

create trigger shadow_truth_guard before insert or update on tenant.shadow_truth
    for each row execute function tenant.guard_truth();

-- A later person's word on a case that has one.
create table tenant.review_confirmation (
    review_case bigint      not null constraint review_confirmation_case references tenant.review_case,
    actor       uuid        not null,
    word        text        not null,
    value       jsonb,
    reason      text        not null,
    said_at     timestamptz not null default now(),

    constraint review_confirmation_pk primary key (review_case, actor),
    constraint review_confirmation_word_known check (word in ('accepted', 'corrected', 'rejected')),
    constraint review_confirmation_value_where_wanted check ((word = 'rejected') = (value is null)),
    constraint review_confirmation_value_is_object check (jsonb_typeof(value) = 'object' and value <> '{}'),
    constraint review_confirmation_reason_bounded check (length(reason) between 1 and 2000)
);

create trigger review_confirmation_stays before update or delete on tenant.review_confirmation
    for each row execute function tenant.refuse_evidence_change();

-- Who was shown another's word on a case: these persons' own word would be no second one.
create table tenant.review_seen (
    review_case bigint      not null constraint review_seen_case references tenant.review_case,
    actor       uuid        not null,
    seen_at     timestamptz not null default now(),

    constraint review_seen_pk primary key (review_case, actor)
);

create trigger review_seen_stays before update or delete on tenant.review_seen
    for each row execute function tenant.refuse_evidence_change();

-- A change that is wanted: a decision whose case a person accepted or corrected, or one that policy alone may carry
-- out. Written in the transaction that makes it wanted; a job plans it. One decision, one wish, one writeback.
create table tenant.wish (
    decision    bigint      not null constraint wish_pk primary key constraint wish_decision references tenant.decision,
    -- Whose word it rests on; none where policy alone asks.
    review_case bigint      constraint wish_case references tenant.review_case,
    -- The person, or the service that acts for the person who let the candidate act alone.
    requested_by uuid       not null,
    state       text        not null default 'due',
    writeback   bigint      constraint wish_writeback references tenant.writeback,
    reason      text, -- why nothing is written, as a word of ours
    detail      text, -- the same in words; may quote the target
    wished_at   timestamptz not null default now(),
    settled_at  timestamptz,

    constraint wish_one_per_case unique (review_case),
    constraint wish_one_per_writeback unique (writeback),
    constraint wish_state_known check (state in ('off', 'due', 'planned', 'refused')),
    constraint wish_planned_has_writeback check ((state = 'planned') = (writeback is not null)),
    constraint wish_refused_says_why check ((state = 'refused') = (reason is not null)),
    constraint wish_settled_has_time check ((state = 'due') = (settled_at is null))
);

create index wish_due on tenant.wish (decision) where state = 'due';

create function tenant.guard_wish() returns trigger
    language plpgsql
as $$
begin
    if old.state <> 'due' or (new.decision, new.review_case, new.requested_by, new.wished_at)
        is distinct from (old.decision, old.review_case, old.requested_by, old.wished_at) then
        raise exception 'the wish of decision % is % and stays so', old.decision, old.state
            using errcode = 'check_violation', constraint = 'wish_is_settled_once';
    end if;
    return new;
end
$$;

create trigger wish_guard before update on tenant.wish
    for each row execute function tenant.guard_wish();
create trigger wish_stays before delete on tenant.wish
    for each row execute function tenant.refuse_evidence_change();

create index writeback_by_record on tenant.writeback (connector, stream, key) where intent_at is not null;

-- What a receipt is about, as `decision/17` or `review/7`; none where its content says it.
alter table tenant.receipt add column subject text;
create index receipt_by_subject on tenant.receipt (subject, batch, position) where subject is not null;
