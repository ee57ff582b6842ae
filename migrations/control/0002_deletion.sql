-- The end of a tenant's life: legal holds, which forbid it, deletions with what each step of theirs left, and tombstones.
-- Actors, approvals and jobs are named by their numbers: their tables are of other schemas.

-- As long as a hold is in force its tenant cannot be deleted. Whoever places one and whoever begins a deletion lock the
-- tenant's row in control.tenant first.
create table control.legal_hold (
    id          bigint      generated always as identity constraint legal_hold_pk primary key,
    tenant      uuid        not null constraint legal_hold_tenant_known references control.tenant,
    reason      text        not null,
    placed_by   uuid        not null,
    placed_at   timestamptz not null default clock_timestamp(),
    until       timestamptz, -- null: until somebody releases it
    released_at timestamptz,
    released_by uuid,

    constraint legal_hold_reason_bounded check (length(reason) between 1 and 1000),
    constraint legal_hold_ends_later check (until > placed_at),
    constraint legal_hold_is_released_by_somebody check ((released_at is null) = (released_by is null))
);

create index legal_hold_open on control.legal_hold (tenant) where released_at is null;

-- Whatever a program does: nobody is held who is on the way out, and nobody goes who is held.
create function control.hold_needs_a_living_tenant() returns trigger
    language plpgsql
as $$
declare
    found_in text;
begin
    select t.state into found_in from control.tenant t where t.id = new.tenant for update;
    if found_in in ('deleting', 'deleted') then
        raise exception 'tenant % is being deleted or gone: it cannot be held', new.tenant
            using errcode = 'check_violation', constraint = 'legal_hold_needs_a_living_tenant';
    end if;
    return new;
end
$$;

create trigger legal_hold_needs_a_living_tenant before insert on control.legal_hold
    for each row execute function control.hold_needs_a_living_tenant();

create function control.tenant_ends_once() returns trigger
    language plpgsql
as $$
begin
    if old.state = 'deleted' or (old.state = 'deleting') <> (new.state = 'deleted') then
        raise exception 'tenant % is % and cannot become %', old.id, old.state, new.state
            using errcode = 'check_violation', constraint = 'tenant_ends_once';
    end if;
    if new.state = 'deleting' and exists (
        select from control.legal_hold h
         where h.tenant = new.id and h.released_at is null and (h.until is null or h.until > clock_timestamp())
    ) then
        raise exception 'tenant % is under legal hold', new.id
            using errcode = 'check_violation', constraint = 'tenant_under_hold';
    end if;
    return new;
end
$$;

create trigger tenant_ends_once before update of state on control.tenant
    for each row when (old.state is distinct from new.state) execute function control.tenant_ends_once();

create sequence control.deletion_id;

-- A request to delete a tenant, and what became of it.
create table control.deletion (
    id               bigint      not null default nextval('control.deletion_id') constraint deletion_pk primary key,
    tenant           uuid        not null constraint deletion_tenant_known references control.tenant,
    state            text        not null default 'requested',
    approval         bigint      not null, -- of the platform
    requested_by     uuid        not null,
    requested_at     timestamptz not null default clock_timestamp(),
    cooling_off_secs bigint      not null,
    cooled_at        timestamptz, -- when the cooling-off ends or ended; it begins when the approval is used up
    begun_at         timestamptz, -- from then on there is no way back
    ended_at         timestamptz,
    ended_by         uuid,
    note             text,        -- why it came to nothing

    constraint deletion_state_known
        check (state in ('requested', 'cooling', 'called_off', 'refused', 'begun', 'done')),
    constraint deletion_cools_off_within_a_month check (cooling_off_secs between 0 and 2678400),
    constraint deletion_cooling_has_an_end check (state in ('requested', 'called_off', 'refused') or cooled_at is not null),
    constraint deletion_begins_cooled check ((begun_at is not null) = (state in ('begun', 'done')) and begun_at >= cooled_at),
    constraint deletion_ends_once check ((ended_at is not null) = (state in ('called_off', 'refused', 'done')))
);

-- One at a time; a tenant that is gone needs no other.
create unique index deletion_live_unique on control.deletion (tenant) where state in ('requested', 'cooling', 'begun');

-- What each step has found and done, for the certificate; a step that stands here is not done again.
create table control.deletion_step (
    deletion bigint      not null constraint deletion_step_of_one references control.deletion,
    step     text        not null,
    evidence jsonb       not null,
    done_at  timestamptz not null default clock_timestamp(),

    constraint deletion_step_pk primary key (deletion, step)
);

-- What is left of a tenant, as signed notes; the same lie outside of this database.
create table control.tombstone (
    tenant      uuid        not null constraint tombstone_pk primary key references control.tenant,
    deletion    bigint      not null constraint tombstone_deletion_known references control.deletion,
    note        text        not null,
    certificate text, -- once every probe has found nothing
    buried_at   timestamptz not null default clock_timestamp()
);
