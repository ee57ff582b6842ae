-- queue.list
-- $1 before this id, $2 queue, $3 kind, $4 tenant, $5 live state (null: any, -1: none), $6 outcome likewise, $7 limit.
-- Each side is cut to the limit on its own, by its primary key, before the two are merged.
(select id as "id!", kind as "kind!", queue as "queue!", state as "state!", true as "live!", tenant,
        priority as "priority!", attempt as "attempt!", attempts_max as "attempts_max!", failures as "failures!",
        losses as "losses!", crashes as "crashes!", fence as "fence!", reason as "reason!", note,
        cancel_requested as "cancel_requested!", created_at as "created_at!", run_at as "run_at!", started_at,
        null::timestamptz as finished_at, lease_expires_at, worker, unique_key,
        -- What waits for others has come as far as they have.
        coalesce(progress, case when state = 2 and reason = 7 then (
            select jsonb_build_object('done', count(d.outcome), 'total', count(*), 'message', 'jobs that it waits for')
            from queue.dependency d where d.waiter = job.id and d.policy <> 3) end) as progress,
        payload as "payload!",
        null::jsonb as output
 from queue.job
 where ($1::bigint is null or id < $1) and ($2::text is null or queue = $2) and ($3::text is null or kind = $3)
   and ($4::uuid is null or tenant = $4) and ($5::smallint is null or state = $5)
 order by id desc limit $7)
union all
(select id, kind, queue, outcome, false, tenant, priority, attempt, attempts_max, failures, losses, crashes, fence,
        0::smallint, note, false, created_at, run_at, started_at, finished_at, null, worker, unique_key, null, payload,
        output
 from queue.job_history
 where ($1::bigint is null or id < $1) and ($2::text is null or queue = $2) and ($3::text is null or kind = $3)
   and ($4::uuid is null or tenant = $4) and ($6::smallint is null or outcome = $6)
 order by id desc limit $7)
order by 1 desc limit $7
