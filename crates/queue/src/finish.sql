-- queue.finish
-- $1..$8 the endings; $9..$19 the follow-ups with the job that asked for each.
with ending as (
    select * from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::jsonb[], $5::text[], $6::smallint[],
                         $7::text[], $8::text[])
        as e(id, fence, outcome, output, note, how, class, error)
), gone as (
    delete from queue.job j using ending e where j.id = any($1) and j.id = e.id and j.fence = e.fence
    returning j.*, e.outcome, e.output, e.note as last_note, e.how, e.class, e.error
), kept as (
    insert into queue.job_history
        (id, fence, run_at, created_at, started_at, finished_at, worker, outcome, priority, attempt, attempts_max,
         failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, note, output)
    select id, fence, run_at, created_at, started_at, now(), worker, outcome, priority, attempt, attempts_max,
           failures + (error is not null)::int, losses, crashes, tenant, queue, kind, payload, unique_key,
           rate_key, traceparent, last_note, output
    from gone
), recorded as (
    insert into queue.attempt (job, fence, started_at, finished_at, worker, number, outcome, class, error)
    select id, fence, started_at, now(), worker, attempt, how, class, error from gone where error is not null
), followed as (
    insert into queue.job
        (queue, kind, tenant, priority, attempts_max, run_at, payload, unique_key, traceparent, rate_key, state, reason)
    select n.queue, n.kind, n.tenant, n.priority, n.attempts_max, coalesce(n.run_at, now()), n.payload, n.unique_key,
           n.traceparent, n.rate_key, case when n.tenant = any(f.tenants) then 2 else 0 end,
           case when n.tenant = any(f.tenants) then 8 else 0 end
    from unnest($9::bigint[], $10::text[], $11::text[], $12::uuid[], $13::smallint[], $14::smallint[],
                $15::timestamptz[], $16::jsonb[], $17::text[], $18::text[], $19::text[])
        as n(parent, queue, kind, tenant, priority, attempts_max, run_at, payload, unique_key, traceparent,
             rate_key)
    join gone on gone.id = n.parent
    cross join (select array_agg(tenant) as tenants from queue.frozen_tenant) as f
    on conflict (kind, unique_key) where unique_key is not null do nothing
)
select id as "id!", outcome as "outcome!", awaited as "awaited!" from gone
