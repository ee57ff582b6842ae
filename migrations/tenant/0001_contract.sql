-- What every tenant database holds before any feature: whose it is, and the contract between an attempt's fence and its effects.

-- Whose database this is. One row, written at provisioning; the tenant's role can only read it.
create table tenant.stamp (
    only_row   boolean     not null default true constraint stamp_pk primary key,
    tenant_id  uuid        not null,
    stamped_at timestamptz not null default now(),

    constraint stamp_has_one_row check (only_row)
);

-- The newest fence that an attempt of this job has raised here. An effect whose fence differs is of a lost attempt.
create table tenant.job_fence (
    job       bigint      not null constraint job_fence_pk primary key,
    fence     bigint      not null,
    raised_at timestamptz not null default now()
);

-- Steps of jobs whose effect is committed. A replayed step finds its row and is skipped.
create table tenant.applied_step (
    job        bigint      not null,
    step       text        not null,
    applied_at timestamptz not null default now(),

    constraint applied_step_pk primary key (job, step)
);
