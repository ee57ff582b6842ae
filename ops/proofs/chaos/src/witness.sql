-- The control database's witness: every change of a job's fence and every leaving of the live table.
create schema witness;
create table witness.move (
    number       bigint      generated always as identity primary key,
    job          bigint      not null,
    from_running boolean     not null,
    from_fence   bigint      not null,
    from_worker  bigint,
    to_running   boolean,
    to_fence     bigint,
    to_worker    bigint,
    queue        text        not null,
    tenant       uuid
);
create function witness.note_move() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into witness.move (job, from_running, from_fence, from_worker, queue, tenant)
        values (old.id, old.state = 1, old.fence, old.worker, old.queue, old.tenant);
    else
        insert into witness.move (job, from_running, from_fence, from_worker, to_running, to_fence, to_worker, queue, tenant)
        values (old.id, old.state = 1, old.fence, old.worker, new.state = 1, new.fence, new.worker, new.queue, new.tenant);
    end if;
    return null;
end $$;
create trigger witness_move after update on queue.job for each row
    when (old.fence is distinct from new.fence or (old.state = 1) is distinct from (new.state = 1)
          or old.worker is distinct from new.worker)
    execute function witness.note_move();
create trigger witness_end after delete on queue.job for each row execute function witness.note_move();
