-- queue.rescue
-- $1 workers known to be dead, $2 crashes that a job may cause, $3 the low-water mark of leases' ends, $4 limit.
-- The jobs of a dead worker are judged together, when the last of its shortened leases has ended: a job that were
-- judged after its neighbours had gone would seem to have run alone.
with dying as materialized (
    select distinct worker from queue.job
    where $1::bigint[] <> '{}' and state = 1 and worker = any($1) and lease_expires_at between now() and now() + interval '1 s'
), expired as materialized (
    select id from queue.job
    where state = 1 and lease_expires_at >= $3 and lease_expires_at < now() and not cancel_requested
      and not exists (select from dying where dying.worker = job.worker)
    order by id limit $4 for update skip locked
), seen as materialized (
    select j.id, j.fence, j.worker, j.started_at, j.attempt, j.checkpointed, j.losses, j.crashes, j.lease_expires_at,
           j.progress, j.run_at as due_at,
           j.worker = any($1) as dead,
           (select count(*) from queue.job o where o.state = 1 and o.worker = j.worker) - 1 as beside,
           (select w.name from queue.worker w where w.id = j.worker) as worker_name
    from queue.job j where j.id = any(array(select id from expired))
), judged as (
    select *,
           dead and beside = 0 and not checkpointed as crashed,
           case when checkpointed then 1 else least(losses, 32766) + 1 end as losses_now,
           case when checkpointed then 0
                else crashes + (dead and beside = 0)::int end as crashes_now,
           concat_ws('; ',
               'worker ' || coalesce(worker_name, worker::text)
                   || case when dead then ' died' else ' did not renew the lease in time' end,
               case when beside = 0 then 'the job ran alone' else format('it ran beside %s others', beside) end,
               case when checkpointed then 'it had made a checkpoint' else 'no checkpoint was made' end,
               'last progress ' || progress::text) as evidence
    from seen
), moved as (
    update queue.job j
    set state = case when v.crashes_now >= $2::smallint then 3 else 0 end,
        fence = nextval('queue.fence'), worker = null, lease_expires_at = null, governed = null,
        losses = v.losses_now, crashes = v.crashes_now,
        suspect = (v.dead or j.suspect) and not v.checkpointed,
        -- At once after the first loss; then with full jitter, at most a minute.
        run_at = case when v.losses_now <= 1 then now()
                      else now() + make_interval(secs => random() * least(60, 2 ^ least(v.losses_now, 6))) end,
        reason = 6, note = v.evidence
    from judged v where j.id = any(array(select id from judged)) and j.id = v.id and j.fence = v.fence
    returning j.id, j.queue, j.kind, j.state = 3 as quarantined, v.evidence, v.fence, v.started_at, v.worker, v.attempt,
        v.crashed, j.fence as fence_now, v.due_at, j.run_at
), explained as (
    insert into queue.reason_change (job, fence, at, due_at, started_at, until, reason, evidence)
    select id, fence_now, now(), due_at, started_at, run_at, 6, evidence from moved
), recorded as (
    insert into queue.attempt (job, fence, started_at, finished_at, worker, number, outcome, class, error)
    select id, fence, started_at, now(), worker, attempt, case when crashed then 5 else 4 end, 'transient', evidence
    from moved
), charged as (
    insert into queue.crash_charge (worker, job, fence) select worker, id, fence from moved where crashed
)
select id as "id!", queue as "queue!", kind as "kind!", quarantined as "quarantined!", evidence as "evidence!" from moved
