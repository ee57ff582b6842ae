-- queue.claim
-- $1 queue, $2 priorities, $3 and $4 the lanes' marks, $5 aging step, $6 limit, $7 worker, $8 lease in seconds.
-- Lanes are emptied in their order until the limit is reached: a lane whose first jobs are all locked holds up no other.
-- `state = 0` stands literally, so that the partial index job_ready can be used whatever the parameters are.
-- `for share`: who lets a queue be governed waits until no claim is under way that has not seen it (see limit.rs).
with lane as (
    select l.priority, head.run_at, head.id
    from unnest($2::smallint[], $3::timestamptz[], $4::bigint[]) as l(priority, mark_at, mark_id)
    cross join lateral (
        select j.run_at, j.id from queue.job j
        where j.queue = $1 and j.priority = l.priority and j.state = 0 and not j.suspect and j.governed is null
          and j.run_at <= now() and (j.run_at, j.id) >= (l.mark_at, l.mark_id)
        order by j.run_at, j.id limit 1
    ) as head
    where not exists (select from queue.queue q where q.name = $1 and q.paused_at is not null)
      and not exists (select from queue.governed g where g.queue in ($1, '*') for share)
), drawn as (
    select * from lane order by run_at + priority * make_interval(secs => $5), priority
), picked as materialized (
    select due.id from drawn cross join lateral (
        select j.id from queue.job j
        where j.queue = $1 and j.priority = drawn.priority and j.state = 0 and not j.suspect and j.governed is null
          and j.run_at <= now() and (j.run_at, j.id) >= (drawn.run_at, drawn.id)
        order by j.run_at, j.id limit $6 for update skip locked
    ) as due
    limit $6
)
update queue.job j
set state = 1, fence = nextval('queue.fence'), attempt = least(j.attempt, 32766) + 1, worker = $7, started_at = now(),
    lease_expires_at = now() + make_interval(secs => $8), checkpointed = false, reason = 0, note = null
where j.id = any(array(select id from picked))
returning j.id, j.fence, j.kind, j.payload as "payload: Json<Box<RawValue>>", j.tenant, j.priority, j.attempt,
    j.attempts_max, j.failures, j.traceparent, j.suspect, j.run_at,
    extract(epoch from now() - j.run_at)::float8 as "waited_secs!"
