-- Of which definition of its connector the target of a change is: another definition is another target. What was planned
-- before has none, and is planned anew before it is sent. The guard of the table keeps it as it keeps the rest of the plan.
alter table tenant.writeback add column definition bytea
    constraint writeback_definition_is_sha256 check (octet_length(definition) = 32);
