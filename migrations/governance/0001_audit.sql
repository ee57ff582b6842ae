-- The audit chain: who acts, the entries, the head that makes them one chain, and the signed checkpoints. The same in
-- the control database (the platform's chain) and in every tenant's (its own). FORMAT.md of crates/verifier says what
-- the bytes mean.

-- Whoever acts. Entries know the id alone, so that a name can be erased without touching the chain.
create table governance.actor (
    id         uuid        not null constraint actor_pk primary key,
    name       text        constraint actor_name_unique unique, -- null once erased
    person     uuid        not null constraint actor_person_known references governance.actor,
    created_at timestamptz not null default now(),

    constraint actor_name_bounded check (length(name) between 1 and 200)
);

create table governance.audit_entry (
    seq      bigint      not null constraint audit_entry_pk primary key,
    at       timestamptz not null, -- as in the content
    approval text, -- the member of this name in the body, to find what belongs to an approval
    content  bytea  not null,
    hash     bytea  not null,

    constraint audit_entry_counts_from_one check (seq >= 1),
    constraint audit_entry_content_bounded check (octet_length(content) <= 65536),
    constraint audit_entry_hash_is_sha256 check (octet_length(hash) = 32)
);

create index audit_entry_by_approval on governance.audit_entry (approval, seq) where approval is not null;

-- The hash before the first entry.
create function governance.genesis(chain text) returns bytea
    language sql immutable strict parallel safe
    return sha256(convert_to('tenure.audit.v1 genesis' || chr(10) || chain || chr(10), 'UTF8'));

-- Whose chain it is. The lock of this row is what keeps two appends from following the same entry; a lock on the last
-- entry does not. It is locked and never updated: the versions that updates leave behind would have to be walked by
-- every append for as long as some old snapshot is held.
create table governance.audit_head (
    only_row boolean not null default true constraint audit_head_pk primary key,
    origin   text    not null,

    constraint audit_head_has_one_row check (only_row)
);

-- The platform's, until provisioning says whose database this is.
insert into governance.audit_head (origin) values ('platform/' || gen_random_uuid());

-- Appends an entry. As its owner, so that a role which may call it needs no right to write either table. The members
-- stand in the order of their names; `body` must be canonical JSON already, `kind` is held to letters by its check.
create function governance.append(
    kind text, actor uuid, job bigint, body text, out entry_seq bigint, out entry_hash bytea
)
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
    -- A plan that was made while the table was small would sort all of it for its last row.
    set enable_seqscan = off
as $$
declare
    origin  text;
    last    record;
    at      timestamptz;
    content bytea;
begin
    if kind !~ '^[a-z][a-z0-9_.]{0,63}$' then
        raise exception 'an audit entry cannot be of kind %', kind using errcode = 'check_violation';
    end if;
    -- By its key: the scan that is forbidden above would count as so dear that it is compiled first.
    select h.origin into strict origin from governance.audit_head h where h.only_row for update;
    -- A statement of its own: its snapshot shows what whoever held the lock has committed.
    select e.seq, e.hash, e.at into last from governance.audit_entry e order by e.seq desc limit 1;
    entry_seq := coalesce(last.seq, 0) + 1;
    -- The chain's time does not run backwards when the server's clock does.
    at := greatest(clock_timestamp(), last.at);
    content := convert_to(
        '{"actor":' || coalesce('"' || actor || '"', 'null')
        || ',"at":"' || to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","body":' || body
        || ',"job":' || coalesce('"' || job || '"', 'null')
        || ',"kind":"' || kind
        || '","seq":' || entry_seq
        || ',"tag":"tenure.audit.v1"}', 'UTF8');
    entry_hash := sha256(content || coalesce(last.hash, governance.genesis(origin)));
    insert into governance.audit_entry (seq, at, approval, content, hash)
    values (entry_seq, at, body::json ->> 'approval', content, entry_hash);
end
$$;

-- Where the chain ends.
create view governance.audit_tail as
select h.origin, coalesce(e.seq, 0) as size, coalesce(e.hash, governance.genesis(h.origin)) as hash
  from governance.audit_head h
  left join lateral (select seq, hash from governance.audit_entry order by seq desc limit 1) e on true;

-- Signed statements of how long the chain was and what it held. `peaks` are the roots of the perfect Merkle trees that
-- the first `size` entries fall into, so that the next checkpoint reads only what came after.
create table governance.checkpoint (
    size    bigint      not null constraint checkpoint_pk primary key,
    head    bytea       not null,
    root    bytea       not null,
    peaks   bytea       not null,
    note    text        not null,
    made_at timestamptz not null default now()
);

-- What is written stays (A5): even for the tables' owner, whom privileges do not bind.
create function governance.refuse_change() returns trigger
    language plpgsql
as $$
begin
    raise exception '% of governance.% is refused: the audit chain only grows', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_entry_only_grows before update or delete on governance.audit_entry
    for each row execute function governance.refuse_change();
create trigger audit_entry_is_never_emptied before truncate on governance.audit_entry
    for each statement execute function governance.refuse_change();
create trigger checkpoint_only_grows before update or delete on governance.checkpoint
    for each row execute function governance.refuse_change();
create trigger checkpoint_is_never_emptied before truncate on governance.checkpoint
    for each statement execute function governance.refuse_change();
create trigger audit_head_stays before delete on governance.audit_head
    for each row execute function governance.refuse_change();
create trigger audit_head_is_never_emptied before truncate on governance.audit_head
    for each statement execute function governance.refuse_change();
