-- Paths, their policies, and what policies decide.

-- A governed set of fields of a stream, and how far it has come.
create table tenant.path (
    id            bigint      generated always as identity constraint path_pk primary key,
    name          text        not null constraint path_name_unique unique,
    connector     text        not null,
    stream        text        not null,
    fields        text[]      not null,
    state         text        not null default 'catalogued',
    -- Changes sent in a day, at most.
    daily_cap     integer     not null default 100,
    -- Mismatches in a row after which the candidate is demoted.
    breaker_limit integer     not null default 3,
    created_by    uuid        not null,
    created_at    timestamptz not null default now(),

    constraint path_name_is_plain check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    constraint path_has_fields check (cardinality(fields) between 1 and 50 and array_position(fields, null) is null),
    constraint path_state_known check (state in ('catalogued', 'probed', 'certified', 'live')),
    constraint path_daily_cap_sane check (daily_cap between 0 and 1000000),
    constraint path_breaker_limit_sane check (breaker_limit between 1 and 1000)
);

create index path_by_stream on tenant.path (connector, stream);

-- A step of a path on the ladder, up or down, with what spoke for it.
create table tenant.path_step (
    path       bigint      not null constraint path_step_path references tenant.path,
    number     integer     not null,
    from_state text        not null,
    to_state   text        not null,
    by_actor   uuid        not null,
    -- The approval that was consumed; a certification has one.
    approval   uuid,
    -- Digests, counts and ids.
    evidence   jsonb       not null,
    at         timestamptz not null default now(),

    constraint path_step_pk primary key (path, number),
    constraint path_step_states_known check (
        from_state in ('catalogued', 'probed', 'certified', 'live')
        and to_state in ('catalogued', 'probed', 'certified', 'live')),
    constraint path_step_certified_by_approval check (to_state <> 'certified' or from_state = 'live' or approval is not null)
);

-- A version of a path's policy, as its author wrote it.
create table tenant.policy (
    path       bigint      not null constraint policy_path references tenant.path,
    version    integer     not null,
    text       text        not null,
    digest     bytea       not null,
    created_by uuid        not null,
    created_at timestamptz not null default now(),

    constraint policy_pk primary key (path, version),
    constraint policy_version_from_one check (version >= 1),
    constraint policy_digest_is_sha256 check (octet_length(digest) = 32)
);

create function tenant.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of %.% is refused: its rows never change', lower(tg_op), tg_table_schema, tg_table_name
        using errcode = 'restrict_violation';
end $$;

-- A policy may have decided something the moment it is there: a new text is a new version.
create trigger policy_never_changes before update or delete or truncate on tenant.policy
    for each statement execute function tenant.refuse_change();
create trigger path_step_never_changes before update or delete or truncate on tenant.path_step
    for each statement execute function tenant.refuse_change();

-- What a policy version said of a record in one state, with one set of evidence.
create table tenant.decision (
    id              bigint      generated always as identity constraint decision_pk primary key,
    path            bigint      not null,
    policy_version  integer     not null,
    input_digest    bytea       not null,
    key             text        collate "C" not null,
    record_digest   text        not null,
    evidence_digest bytea       not null,
    verdict         text        not null,
    rule            text,
    class           text,
    confidence      smallint    not null,
    proposed        jsonb,
    reason          text        not null,
    decided_at      timestamptz not null default now(),

    constraint decision_policy foreign key (path, policy_version) references tenant.policy,
    constraint decision_once unique (path, policy_version, input_digest),
    constraint decision_digests_are_sha256 check (octet_length(input_digest) = 32 and octet_length(evidence_digest) = 32),
    constraint decision_verdict_known check (verdict in ('fix', 'review', 'block', 'none')),
    constraint decision_confidence_percent check (confidence between 0 and 100),
    constraint decision_fix_proposes check (verdict <> 'fix' or (proposed is not null and class is not null))
);

create index decision_by_record on tenant.decision (path, key, decided_at);

-- A value as an identity: two records with the same one are about the same person or thing.
create function tenant.identity(value text, compare text) returns text
    language sql immutable parallel safe as $$
    select nullif(case compare
        when 'exact' then value
        when 'digits' then regexp_replace(value, '[^0-9]', '', 'g')
        else lower(btrim(value)) end, '')
$$;
