-- Certifying a path is an action of its own class: somebody answers for letting automations write there.

create or replace function governance.is_action_class(name text) returns boolean
    language sql immutable strict parallel safe
    return name in ('promotion', 'certification', 'key_rotation', 'tenant_export', 'tenant_delete', 'gate_lower')
        or name ~ '^writeback\.[a-z][a-z0-9_]{0,39}$';
