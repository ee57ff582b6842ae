-- Of a database that was restored from a bundle: whose audit chain it carries on, which bundle it was, and when.
alter table tenant.stamp
    add column chain text,
    add column bundle bytea constraint stamp_bundle_is_sha256 check (octet_length(bundle) = 32),
    add column restored_at timestamptz,
    add constraint stamp_restored_is_complete check (
        (chain is null) = (bundle is null) and (chain is null) = (restored_at is null));
