-- Bulk operations: a row for each, under the id of the job that carries it out, and one for each job that it has
-- chosen. An operation acts on a job and says so here in one transaction: that is what makes it act once.

create table queue.bulk (
    operation    bigint      not null, -- the job that carries it out
    chosen_up_to bigint      not null default 0, -- ids up to here have been looked at
    acted_up_to  bigint      not null default 0, -- of the chosen ones, ids up to here have been dealt with
    chosen       bigint      not null default 0,
    acted        bigint      not null default 0,
    skipped      bigint      not null default 0,
    created_at   timestamptz not null default now(),
    is_chosen    boolean     not null default false, -- every id up to the plan's bound has been looked at
    constraint bulk_pkey primary key (operation),
    constraint bulk_counts_agree check (acted + skipped <= chosen)
);

create table queue.bulk_outcome (
    operation bigint   not null,
    job       bigint   not null,
    fence     bigint   not null, -- the job's, when it was chosen
    state     smallint not null, -- likewise: a live job's state or a finished one's outcome
    outcome   smallint not null default 0, -- 0 chosen, 1 acted on, 2 skipped
    is_live   boolean  not null,
    reason    text,
    constraint bulk_outcome_pkey primary key (operation, job),
    constraint bulk_outcome_of_an_operation foreign key (operation) references queue.bulk on delete cascade,
    constraint bulk_outcome_known check (outcome between 0 and 2),
    constraint bulk_outcome_skipped_for_a_reason check ((outcome = 2) = (reason is not null))
) with (fillfactor = 70);
