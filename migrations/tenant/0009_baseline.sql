-- Nightly baselines: how far a run has come, and the report that it ends with.

create table tenant.baseline_run (
    job         bigint      not null constraint baseline_run_pk primary key, -- the job that began it
    -- The day in UTC on which it began, by this database's clock. A night may have several runs.
    night       date        not null,
    -- What it set out to read: {connector, stream}, or {connector, refused} where the definition is none.
    streams     jsonb       not null,
    started_at  timestamptz not null default now(),
    finished_at timestamptz,
    report      jsonb,

    constraint baseline_run_ends_with_report check ((finished_at is null) = (report is null)),
    constraint baseline_run_streams_is_list check (jsonb_typeof(streams) = 'array')
);

create index baseline_run_by_night on tenant.baseline_run (night, finished_at);

-- What a path's rules said, counted page by page, so that a run that was killed goes on after its last page.
create table tenant.baseline_path (
    run            bigint  not null constraint baseline_path_run references tenant.baseline_run on delete cascade,
    path           bigint  not null constraint baseline_path_path references tenant.path,
    pages          integer not null,
    policy_version integer, -- none: the path has no policy that could be applied
    after          text    collate "C", -- the last record decided on
    is_done        boolean not null,
    counts         jsonb   not null,

    constraint baseline_path_pk primary key (run, path),
    constraint baseline_path_pages_positive check (pages > 0)
);
