-- What connector syncs write: the connectors, how far each stream has come, the records, and what was set aside.

-- A connector's definition as the operator wrote it.
create table tenant.connector (
    name          text        not null constraint connector_pk primary key,
    definition    text        not null,
    registered_at timestamptz not null default now()
);

-- How far a stream has been read. Written in the transaction that writes the rows it speaks of.
create table tenant.sync_state (
    connector  text        not null,
    stream     text        not null,
    state      jsonb       not null,
    updated_at timestamptz not null default now(),

    constraint sync_state_pk primary key (connector, stream)
);

-- A row of a source. Deleted ones stay, marked: what was governed on their account must remain explainable.
create table tenant.record (
    connector     text        not null,
    stream        text        not null,
    -- Compared byte by byte, as sources deliver their keys when deletions are looked for.
    key           text        collate "C" not null,
    cursor        text,
    digest        text        not null,
    data          jsonb       not null,
    first_seen_at timestamptz not null default now(),
    changed_at    timestamptz not null default now(),
    deleted_at    timestamptz,

    constraint record_pk primary key (connector, stream, key)
);

-- A record that could not be taken, set aside with its reason; the sync went on.
create table tenant.rejected_record (
    connector     text        not null,
    stream        text        not null,
    digest        text        not null,
    key           text,
    reason        text        not null,
    detail        text        not null,
    excerpt       text        not null,
    times         bigint      not null default 1,
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now(),

    constraint rejected_record_pk primary key (connector, stream, digest)
);

-- One row per sync job: what its attempts have done together.
create table tenant.sync_run (
    job         bigint      not null constraint sync_run_pk primary key,
    connector   text        not null,
    stream      text        not null,
    step        bigint      not null default 0, -- the last batch committed
    read        bigint      not null default 0,
    written     bigint      not null default 0,
    unchanged   bigint      not null default 0,
    repeated    bigint      not null default 0,
    rejected    bigint      not null default 0,
    deleted     bigint      not null default 0,
    null_cursor bigint      not null default 0,
    warnings    text[]      not null default '{}',
    started_at  timestamptz not null default now(),
    finished_at timestamptz,
    report      jsonb
);

create index sync_run_by_stream on tenant.sync_run (connector, stream, started_at);

-- A request budget shared by all workers: when the bucket will be full again (generic cell rate algorithm).
create table tenant.rate_bucket (
    name    text        not null constraint rate_bucket_pk primary key,
    full_at timestamptz not null
);
