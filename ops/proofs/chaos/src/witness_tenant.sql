-- A tenant database's witness: every fence that comes into place. As its owner, since the tenant's role may not write there.
create schema witness;
create table witness.raise (
    number bigint generated always as identity primary key,
    job    bigint not null,
    fence  bigint not null
);
create function witness.note_raise() returns trigger language plpgsql security definer as $$
begin
    insert into witness.raise (job, fence) values (new.job, new.fence);
    return null;
end $$;
create trigger witness_raise after insert or update on tenant.job_fence for each row execute function witness.note_raise();
