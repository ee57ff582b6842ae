-- The catalogue of tenants. A row is never deleted: after the tenant is gone it keeps the database's name from being used again.
create table control.tenant (
    id             uuid        not null constraint tenant_pk primary key,
    name           text        not null constraint tenant_name_unique unique,
    region         text        not null,
    state          text        not null default 'provisioning',
    database_name  text        not null constraint tenant_database_unique unique,
    role_name      text        not null constraint tenant_role_unique unique,
    -- The newest migration of the tenant's own schema; null until the first one has run.
    schema_version bigint,
    created_at     timestamptz not null default now(),
    active_since   timestamptz,

    constraint tenant_name_pattern check (name ~ '^[a-z][a-z0-9-]{1,39}$'),
    constraint tenant_region_pattern check (region ~ '^[a-z][a-z0-9-]{0,39}$'),
    constraint tenant_state_known check (state in ('provisioning', 'active', 'frozen', 'deleting', 'deleted')),
    -- The names follow from the id, so no two tenants, living or dead, can share a database.
    constraint tenant_database_derived check (database_name = 'tenant_' || replace(id::text, '-', '')),
    constraint tenant_role_derived check (role_name = database_name),
    constraint tenant_active_is_complete
        check (state <> 'active' or (schema_version is not null and active_since is not null))
);
