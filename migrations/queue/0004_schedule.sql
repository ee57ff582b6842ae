-- Schedules, and the fires that they gave. Whatever says when the next fire is due is decided by this database's clock.

create table queue.schedule (
    id            bigint      generated always as identity,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    -- Fire times up to here have been considered: what they were given is settled.
    considered_at timestamptz not null default now(),
    -- The first fire time after that, or, behind a fault, when it is tried again. Null: it has none left.
    next_fire_at  timestamptz,
    paused_at     timestamptz,
    missed_total  bigint      not null default 0, -- fire times that were given nothing
    jitter_secs   integer     not null default 0, -- the window over which jobs are spread
    missed_max    integer     not null default 1, -- under policy 2, how many missed times are made up for at once
    missed        smallint    not null default 1, -- 0 skip, 1 once, 2 all
    priority      smallint    not null default 2,
    attempts_max  smallint    not null default 3,
    tenant        uuid,                           -- null: the platform's
    name          text        not null,
    cron          text        not null,
    zone          text        not null,           -- IANA
    kind          text        not null,
    queue         text        not null,
    payload       jsonb       not null,
    unique_key    text,
    paused_by     text,
    pause_reason  text,
    fault         text,                           -- why it could not fire when it was last tried
    constraint schedule_pkey primary key (id),
    constraint schedule_name_short check (char_length(name) between 1 and 200),
    constraint schedule_cron_short check (char_length(cron) between 1 and 200),
    constraint schedule_missed_known check (missed between 0 and 2),
    constraint schedule_missed_bounded check (missed_max between 1 and 1000),
    constraint schedule_jitter_positive check (jitter_secs >= 0),
    constraint schedule_priority_known check (priority between 0 and 3),
    constraint schedule_attempts_positive check (attempts_max > 0)
);

-- The platform's schedules share one owner: nulls alone would be distinct (`nulls not distinct` needs Postgres 15).
create unique index schedule_name_unique
    on queue.schedule (name, coalesce(tenant, '00000000-0000-0000-0000-000000000000'));
create index schedule_due on queue.schedule (next_fire_at) where paused_at is null;

-- One row per schedule and fire time, whoever inserts it: that is what makes a fire happen once without a leader.
create table queue.fire (
    schedule    bigint      not null,
    fire_at     timestamptz not null, -- the time that the cron line names, whenever its job may run
    inserted_at timestamptz not null default now(),
    job         bigint,               -- null only inside the transaction that inserts it
    how         smallint    not null, -- 0 due, 1 missed, 2 run now, 3 backfill
    constraint fire_pkey primary key (schedule, fire_at),
    constraint fire_schedule_known foreign key (schedule) references queue.schedule on delete cascade,
    constraint fire_how_known check (how between 0 and 3)
);

create index fire_by_job on queue.fire (job);
create index fire_by_age on queue.fire (inserted_at);
