-- Takes the lock of the caps out of the governed claim: two workers may then count at the same time.
do $$
declare
    whole text := pg_get_functiondef('queue.claim_governed'::regproc);
begin
    if position('perform pg_advisory_xact_lock(' in whole) = 0 then
        raise exception 'queue.claim_governed no longer takes its lock as it did: this file has to be told how';
    end if;
    execute replace(whole, 'perform pg_advisory_xact_lock(', 'perform abs(');
end $$;
