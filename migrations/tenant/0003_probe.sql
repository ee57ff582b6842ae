-- What `probe` jobs write down of themselves, to prove an installation under faults.

-- An effect under the fence. Nothing here is unique, on purpose: a step that were applied twice must show.
create table tenant.probe_effect (
    number  bigint      generated always as identity constraint probe_effect_pk primary key,
    job     bigint      not null,
    fence   bigint      not null,
    step    text        not null,
    made_at timestamptz not null default clock_timestamp(),
    ballast text        not null default ''
);

create index probe_effect_by_job on tenant.probe_effect (job);

-- What really ran, lost attempts too: noted beside the fence and never checked against it.
create table tenant.probe_sighting (
    number bigint      generated always as identity constraint probe_sighting_pk primary key,
    job    bigint      not null,
    fence  bigint      not null,
    pid    bigint      not null, -- of the worker's process
    event  text        not null,
    at     timestamptz not null default clock_timestamp(),

    constraint probe_sighting_event_known check (event in ('began', 'tries', 'done', 'stopped'))
);
