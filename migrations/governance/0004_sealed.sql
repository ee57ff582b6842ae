-- Secrets at rest: the type of a sealed value, the keys that seal values (DEK, one at a time for each table), and the
-- references to the keys that wrap those (KEK), which lie with a key service and never here. The same in the control
-- database and in every tenant's.

-- version 1 | algorithm 1 | kek 16 | dek 16 | nonce 12 | ciphertext and its tag of 16: see crates/vault/src/sealed.rs.
-- A column of this type is found by its type, in whatever table it is: rotation and census ask the catalog.
create domain governance.sealed as bytea
    constraint sealed_has_its_form check (octet_length(value) between 62 and 1048576 and get_byte(value, 0) = 1);

-- The key that a value says it is sealed under.
create function governance.sealed_dek(value governance.sealed) returns uuid
    language sql immutable strict parallel safe
    return encode(substr(value, 19, 16), 'hex')::uuid;

create table governance.kek (
    id              uuid        not null constraint kek_pk primary key,
    vendor          text        not null,
    region          text        not null, -- where the vendor keeps it; empty where that says nothing
    key_id          text        not null, -- what the vendor calls it
    state           text        not null default 'active',
    made_at         timestamptz not null default now(),
    last_rotated_at timestamptz, -- when DEKs were last wrapped under a new version of it
    last_used_at    timestamptz, -- when it last wrapped or unwrapped, to the hour
    retired_at      timestamptz,

    constraint kek_reference_unique unique (vendor, region, key_id),
    constraint kek_vendor_known check (vendor in ('local', 'aws', 'vault', 'gcp', 'azure')),
    constraint kek_region_bounded check (length(region) <= 100),
    constraint kek_key_id_bounded check (length(key_id) between 1 and 500),
    constraint kek_state_known check (state in ('active', 'former', 'retired')),
    constraint kek_retired_once check ((state = 'retired') = (retired_at is not null))
);

-- New DEKs are wrapped by one.
create unique index kek_one_active on governance.kek ((true)) where state = 'active';

create table governance.dek (
    id           uuid        not null constraint dek_pk primary key,
    relation     text        not null, -- the table whose values it seals, as schema.table
    kek          uuid        not null constraint dek_kek_known references governance.kek,
    kek_version  text        not null,
    wrapped      bytea, -- null once retired: what it sealed opens no more
    state        text        not null default 'active',
    made_at      timestamptz not null default now(),
    former_since timestamptz, -- it has sealed nothing since
    retired_at   timestamptz,

    constraint dek_relation_bounded check (length(relation) between 3 and 127),
    constraint dek_wrapped_bounded check (octet_length(wrapped) between 16 and 65536),
    constraint dek_state_known check (state in ('active', 'former', 'retired')),
    constraint dek_former_since_known check ((state = 'active') = (former_since is null)),
    constraint dek_retired_is_gone check ((state = 'retired') = (wrapped is null)),
    constraint dek_retired_once check ((state = 'retired') = (retired_at is not null))
);

-- A table's values are sealed under one. Whoever seals holds its row until the value is committed, so that a former
-- DEK has sealed all that it ever will.
create unique index dek_one_active on governance.dek (relation) where state = 'active';
create index dek_by_kek on governance.dek (kek, id);

-- A rotation: what it set out to do, and how far it has come. It is named by the approval that allowed it, so that a job
-- that takes the place of another goes on where that one stopped. Its row is locked by every page of it.
create table governance.key_rotation (
    id              bigint      not null constraint key_rotation_pk primary key,
    job             bigint      not null, -- the last one that began or went on with it
    action          text        not null,
    older_than_secs bigint      not null, -- keys that were younger stay in use
    progress        jsonb       not null,
    started_at      timestamptz not null default clock_timestamp(),
    ended_at        timestamptz,

    constraint key_rotation_action_known check (action in ('rewrap', 'reseal'))
);

-- Values and keys that a rotation could not open. They were left as they are.
create table governance.key_rotation_fault (
    rotation bigint      not null constraint key_rotation_fault_of references governance.key_rotation,
    relation text        not null,
    col      text        not null,
    key      text[]      not null, -- the primary key, in its order
    dek      uuid        not null, -- the key that the value names
    reason   text        not null,
    seen_at  timestamptz not null default now(),

    constraint key_rotation_fault_pk primary key (rotation, relation, col, key),
    constraint key_rotation_fault_reason_known check (reason in ('unknown_key', 'retired_key', 'lost_key', 'damaged'))
);
