-- queue.claim_governed
-- $1 queue, $2 worker, $3 lease in seconds, $4 limit, $5 aging step. The id 0 says that the claim stopped early.
select coalesce(id, 0) as "id!", coalesce(fence, 0) as "fence!", coalesce(kind, '') as "kind!",
    coalesce(payload, 'null') as "payload!: Json<Box<RawValue>>", tenant, coalesce(priority, 0) as "priority!: i16",
    coalesce(attempt, 0) as "attempt!: i16", coalesce(attempts_max, 0) as "attempts_max!: i16",
    coalesce(failures, 0) as "failures!: i16", traceparent, coalesce(suspect, false) as "suspect!",
    coalesce(run_at, now()) as "run_at!", coalesce(extract(epoch from started_at - run_at), 0)::float8 as "waited_secs!"
from queue.claim_governed($1, $2, $3, $4, $5)
