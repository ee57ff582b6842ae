-- Gates, which say what each class of action asks for, and approvals: fresh, named, single-use, bound to a digest.

-- The mode of all gates here. The row is also the lock between those who change gates and those who rely on them:
-- `for update` against `for key share`, always taken before the lock of an approval.
create table governance.gate_mode (
    only_row     boolean not null default true constraint gate_mode_pk primary key,
    single_admin boolean not null default false,

    constraint gate_mode_has_one_row check (only_row)
);

insert into governance.gate_mode default values;

-- The classes of action that a gate can stand before; policies name those of writebacks.
create function governance.is_action_class(name text) returns boolean
    language sql immutable strict parallel safe
    return name in ('promotion', 'key_rotation', 'tenant_export', 'tenant_delete', 'gate_lower')
        or name ~ '^writeback\.[a-z][a-z0-9_]{0,39}$';

-- What a class asks for, where it was ever set; see gate_for for the others.
create table governance.gate (
    class       text     not null constraint gate_pk primary key,
    persons     smallint not null,
    window_secs integer  not null,
    approvers   uuid[], -- null: everybody

    constraint gate_class_known check (governance.is_action_class(class)),
    -- Only a writeback may go without a person, where its policy lets it.
    constraint gate_persons_bounded check (
        persons between case when class like 'writeback.%' then 0 else 1 end and 10
    ),
    constraint gate_window_bounded check (window_secs between 1 and 1209600), -- 14 days
    constraint gate_approvers_suffice check (cardinality(approvers) between greatest(persons, 1) and 100)
);

-- The gate of a class; one other person and 24 hours where nothing was set.
create function governance.gate_for(wanted text) returns governance.gate
    language sql stable strict
begin atomic
    select class, persons, window_secs, approvers from governance.gate where class = wanted
    union all
    select wanted, 1::smallint, 86400, null
     where not exists (select from governance.gate where class = wanted);
end;

create table governance.approval (
    id               bigint      generated always as identity constraint approval_pk primary key,
    class            text        not null,
    name             text        not null, -- of the thing, to be typed where that is asked for
    content          bytea       not null, -- canonical {tenant, action, targets, plan digest, …}
    digest           bytea       not null, -- its sha256: what a yes is bound to
    plan             bytea       not null, -- canonical, to be shown
    requested_by     uuid        not null constraint approval_requester_known references governance.actor,
    requested_person uuid        not null constraint approval_person_known references governance.actor,
    requested_at     timestamptz not null default clock_timestamp(),
    waiting_job      bigint,
    -- The gate as it was then; what counts is the stricter of then and now.
    persons          smallint    not null,
    window_secs      integer     not null,
    -- Why the requester may say yes after a cooling-off: the mode is single administrator, or nobody else is known yet.
    alone            text,
    state            text        not null default 'open',
    ended_at         timestamptz,
    ended_by         uuid        constraint approval_ender_known references governance.actor,
    consumed_by_job  bigint,

    constraint approval_digest_is_unambiguous unique (id, digest),
    constraint approval_class_known check (governance.is_action_class(class)),
    constraint approval_name_bounded check (length(name) between 1 and 200),
    constraint approval_content_bounded check (octet_length(content) <= 65536),
    constraint approval_plan_bounded check (octet_length(plan) <= 1048576),
    constraint approval_binds_its_content check (digest = sha256(content)),
    constraint approval_binds_its_plan check (
        (convert_from(content, 'UTF8')::json ->> 'plan') = encode(sha256(plan), 'hex')
        and (convert_from(content, 'UTF8')::json ->> 'action') = class
    ),
    constraint approval_needs_somebody check (persons >= 1),
    constraint approval_alone_known check (alone in ('single_admin', 'nobody_else')),
    constraint approval_state_known check (state in ('open', 'denied', 'withdrawn', 'lapsed', 'consumed')),
    constraint approval_ends_once check ((state = 'open') = (ended_at is null)),
    constraint approval_job_only_if_consumed check (state = 'consumed' or consumed_by_job is null)
);

-- The same plan is asked for once at a time: a job that is started again finds its request.
create unique index approval_open_digest_unique on governance.approval (digest) where state = 'open';
create index approval_open on governance.approval (id) where state = 'open';

create table governance.approval_decision (
    approval bigint      not null,
    digest   bytea       not null, -- what was seen
    person   uuid        not null constraint approval_decision_person_known references governance.actor,
    verdict  text        not null,
    alone    boolean     not null default false, -- the requester's own, after the cooling-off
    given_at timestamptz not null,

    -- Whoever has said yes may still say no.
    constraint approval_decision_pk primary key (approval, person, verdict),
    constraint approval_decision_is_on_what_was_seen foreign key (approval, digest)
        references governance.approval (id, digest),
    constraint approval_decision_verdict_known check (verdict in ('yes', 'no')),
    constraint approval_decision_alone_is_yes check (verdict = 'yes' or not alone)
);

-- An approval ends once, and nothing else of it changes.
create function governance.approval_changes_once() returns trigger
    language plpgsql
as $$
declare
    kept governance.approval := new;
begin
    kept.state := old.state;
    kept.ended_at := old.ended_at;
    kept.ended_by := old.ended_by;
    kept.consumed_by_job := old.consumed_by_job;
    if old.state <> 'open' or kept is distinct from old then
        raise exception 'approval % is % and cannot be changed', old.id, old.state
            using errcode = 'insufficient_privilege';
    end if;
    return new;
end
$$;

create trigger approval_changes_once before update on governance.approval
    for each row execute function governance.approval_changes_once();

create function governance.refuse_rewriting() returns trigger
    language plpgsql
as $$
begin
    raise exception '% of governance.% is refused: approvals are kept as they were given', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger approval_is_kept before delete on governance.approval
    for each row execute function governance.refuse_rewriting();
create trigger approval_is_never_emptied before truncate on governance.approval
    for each statement execute function governance.refuse_rewriting();
create trigger approval_decision_only_grows before update or delete on governance.approval_decision
    for each row execute function governance.refuse_rewriting();
create trigger approval_decision_is_never_emptied before truncate on governance.approval_decision
    for each statement execute function governance.refuse_rewriting();

-- Where each approval stands by the stricter of the gate at its request and the gate now. It reads no clock: whoever
-- asks compares `approved_until`, else `request_until`, with clock_timestamp().
create view governance.approval_standing as
select a.id,
       rule.alone,
       rule.needed,
       rule.fresh,
       rule.cooled_at,
       a.requested_at + rule.fresh + (rule.cooled_at - a.requested_at) as request_until,
       given.yeses,
       given.persons[1:rule.needed] as persons, -- those whose yes carries it, the youngest first
       -- Fresh for as long as enough of the yeses are: the needed-th youngest is the first that matters.
       given.times[rule.needed] + rule.fresh as approved_until
  from governance.approval a
 cross join governance.gate_mode m
 cross join lateral governance.gate_for(a.class) g
 cross join lateral (
    select coalesce(case a.alone
               when 'single_admin' then m.single_admin
               when 'nobody_else' then 1 = (select count(*) from governance.actor where id = person)
           end, false) as admitted
 ) lone
 cross join lateral (
    select lone.admitted as alone,
           case when lone.admitted then 1 else greatest(a.persons, g.persons) end as needed,
           make_interval(secs => least(a.window_secs, g.window_secs)) as fresh,
           a.requested_at + case when lone.admitted then interval '24 hours' else interval '0' end as cooled_at
 ) rule
 cross join lateral (
    select count(*) as yeses, array_agg(d.given_at order by d.given_at desc, d.person) as times,
           array_agg(d.person order by d.given_at desc, d.person) as persons
      from governance.approval_decision d
      join governance.actor p on p.id = d.person
     where d.approval = a.id
       and d.verdict = 'yes'
       and p.name is not null -- whoever was erased answers for nothing any more
       and (rule.alone or d.person <> a.requested_person)
       and (g.approvers is null or d.person = any (g.approvers))
 ) given;
