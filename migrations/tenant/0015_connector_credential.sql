-- Credentials of connectors, sealed. A definition names one; nothing shows it.

create table tenant.connector_credential (
    name   text              not null constraint connector_credential_pk primary key,
    value  governance.sealed not null,
    set_at timestamptz       not null default now(),

    constraint connector_credential_name_pattern check (name ~ '^[a-z][a-z0-9_-]{0,62}$')
);
