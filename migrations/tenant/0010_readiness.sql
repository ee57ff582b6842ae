-- What speaks for a tenant being ready: the approval of a certification, rules that failed, and readiness scans.

-- The approval that was consumed, by its number. `approval` was meant for it, is of another type and is not written any
-- more.
alter table tenant.path_step add column approval_id bigint;
alter table tenant.path_step drop constraint path_step_certified_by_approval;
alter table tenant.path_step add constraint path_step_certified_by_approval check (
    to_state <> 'certified' or from_state = 'live' or approval_id is not null or approval is not null) not valid;

-- Whether the rule, or the record, could not be evaluated, which is why a person is asked.
alter table tenant.decision add column failed boolean not null default false;

-- What a readiness scan found. Kept as it was.
create table tenant.readiness_scan (
    job        bigint      not null constraint readiness_scan_pk primary key,
    report     jsonb       not null,
    blocking   integer     not null, -- findings that stand in the way
    scanned_at timestamptz not null default now(),

    constraint readiness_scan_report_is_object check (jsonb_typeof(report) = 'object'),
    constraint readiness_scan_blocking_counted check (blocking >= 0)
);

create index readiness_scan_latest on tenant.readiness_scan (scanned_at);
