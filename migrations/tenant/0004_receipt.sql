-- The records of governed decisions, anchored in the audit chain in batches: the chain carries a batch's Merkle root.

create sequence tenant.receipt_batch_number;

create table tenant.receipt_batch (
    batch     bigint      not null constraint receipt_batch_pk primary key,
    seq       bigint      not null constraint receipt_batch_seq_unique unique, -- the audit entry with its root
    size      integer     not null,
    root      bytea       not null,
    issued_at timestamptz not null default now(),

    constraint receipt_batch_is_not_empty check (size > 0)
);

-- A receipt is never updated: what became of it later is another receipt, which names the former. The batch's row
-- comes after its receipts, since it has the entry's number and the entry is appended last; hence no foreign key.
create table tenant.receipt (
    batch    bigint  not null,
    position integer not null,
    former   text, -- the receipt that this one goes on from
    leaf     bytea   not null, -- outlives the content of others when a path is computed
    content  bytea   not null,

    constraint receipt_pk primary key (batch, position),
    constraint receipt_position_counts_from_zero check (position >= 0)
);

create index receipt_by_former on tenant.receipt (former) where former is not null;
