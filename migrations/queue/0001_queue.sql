-- The engine's tables. Live jobs stand in queue.job; finished ones move to queue.job_history.
-- Columns are ordered by alignment (8 bytes first), so that a row carries no padding.

create sequence queue.job_id;

-- One fence for every move into or out of `running`. It must rise for each job, whichever session draws it, so it
-- may not be cached: a session holding a cached block would hand out smaller numbers than one that came later.
create sequence queue.fence cache 1;

create table queue.job (
    id               bigint      not null default nextval('queue.job_id'),
    fence            bigint      not null default 0,
    run_at           timestamptz not null default now(),
    created_at       timestamptz not null default now(),
    started_at       timestamptz,
    lease_expires_at timestamptz,
    worker           bigint,
    state            smallint    not null default 0, -- 0 ready, 1 running, 2 waiting, 3 quarantined
    priority         smallint    not null default 2, -- 0 urgent, 1 high, 2 normal, 3 low
    attempt          smallint    not null default 0, -- executions begun
    attempts_max     smallint    not null default 3,
    failures         smallint    not null default 0, -- attempts charged against attempts_max
    losses           smallint    not null default 0, -- leases lost since the last checkpoint
    crashes          smallint    not null default 0, -- of these: its worker died while it ran alone
    reason           smallint    not null default 0, -- why it waits: 0 none, 1 backoff, 2 throttled, 3 snoozed, 4 handed back, 5 no handler, 6 lost
    suspect          boolean     not null default false, -- it ran beside others when a worker died: it runs alone next
    checkpointed     boolean     not null default false, -- this attempt has made progress that the next will not repeat
    cancel_requested boolean     not null default false,
    tenant           uuid,        -- opaque to the engine
    queue            text        not null,
    kind             text        not null,
    payload          jsonb       not null,
    unique_key       text,
    traceparent      text,
    note             text,        -- what a person should read beside the reason
    progress         jsonb,
    constraint job_pkey primary key (id),
    constraint job_state_known check (state between 0 and 3),
    constraint job_priority_known check (priority between 0 and 3),
    constraint job_attempts_positive check (attempts_max > 0),
    constraint job_running_has_lease check ((state = 1) = (lease_expires_at is not null)),
    constraint job_running_has_worker check ((state = 1) = (worker is not null))
) with (
    -- A claim writes a new version of each row: leave it room on the same page.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0
);

-- One lane per (queue, priority), in the order in which it is drawn.
create index job_ready on queue.job (queue, priority, run_at, id) where state = 0 and not suspect;
create index job_suspect on queue.job (queue, run_at, id) where state = 0 and suspect;
create index job_lease on queue.job (lease_expires_at) where state = 1;
create unique index job_unique_key on queue.job (kind, unique_key) where unique_key is not null;

create table queue.job_history (
    id           bigint      not null,
    fence        bigint      not null,
    run_at       timestamptz not null,
    created_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz not null,
    worker       bigint,
    outcome      smallint    not null, -- 1 succeeded, 2 failed, 3 cancelled
    priority     smallint    not null,
    attempt      smallint    not null,
    attempts_max smallint    not null,
    failures     smallint    not null,
    losses       smallint    not null,
    crashes      smallint    not null,
    tenant       uuid,
    queue        text        not null,
    kind         text        not null,
    payload      jsonb       not null,
    unique_key   text,
    traceparent  text,
    note         text,
    output       jsonb,
    constraint job_history_pkey primary key (id, finished_at),
    constraint job_history_outcome_known check (outcome between 1 and 3)
) partition by range (finished_at);

create index job_history_by_tenant on queue.job_history (tenant, finished_at) where tenant is not null;

-- Attempts that did not succeed, with what went wrong.
create table queue.attempt (
    job         bigint      not null,
    fence       bigint      not null,
    started_at  timestamptz,
    finished_at timestamptz not null,
    worker      bigint,
    number      smallint    not null,
    outcome     smallint    not null, -- 1 failed, 2 timed out, 3 panicked, 4 lost, 5 crashed, 6 cancelled
    class       text        not null, -- transient, configuration, conflict, poison
    error       text        not null,
    constraint attempt_pkey primary key (job, fence, finished_at),
    constraint attempt_outcome_known check (outcome between 1 and 6)
) partition by range (finished_at);

-- A process that claims. While it lives it holds a session advisory lock on its id.
create table queue.worker (
    id                bigint generated always as identity,
    started_at        timestamptz not null default now(),
    last_seen_at      timestamptz not null default now(),
    ended_at          timestamptz,
    -- The start of the server on which its lock was taken. The lock's absence proves a death on that server only.
    server_started_at timestamptz not null default pg_postmaster_start_time(),
    pid               integer     not null,
    slots             integer     not null,
    stopping          boolean     not null default false,
    name              text        not null,
    host              text        not null,
    version           text        not null,
    queues            text[]      not null,
    constraint worker_pkey primary key (id),
    constraint worker_name_unique unique (name)
);

create index worker_live on queue.worker (id) where ended_at is null;

-- What an operator decided of a queue. A queue without a row is simply open.
create table queue.queue (
    name         text not null,
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    constraint queue_pkey primary key (name)
);

-- Outlives the job, so that a late repetition of a request finds the first answer.
create table queue.idempotency_key (
    scope      text        not null,
    key        text        not null,
    job        bigint      not null,
    digest     bytea       not null,
    expires_at timestamptz not null,
    constraint idempotency_key_pkey primary key (scope, key)
);

create index idempotency_key_expiry on queue.idempotency_key (expires_at);

-- Fences and ids begin at 1; 0 means "never claimed".
comment on table queue.job is 'live jobs';
comment on table queue.job_history is 'finished jobs, by UTC day of their end';
