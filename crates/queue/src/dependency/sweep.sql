-- queue.sweep
-- $1 and $2 the last edge of the look before, $3 how many to look at.
-- One snapshot: a job that moves between the live table and history stands in exactly one of them.
with looked as materialized (
    select d.waiter, d.parent from queue.dependency d
    where d.settled_at is null and (d.waiter, d.parent) > ($1, $2)
    order by d.waiter, d.parent limit $3
), ended as materialized (
    select l.waiter, l.parent,
           coalesce((select h.outcome from queue.job_history h where h.id = l.parent limit 1), 0::smallint) as outcome
    from looked l where (select j.id from queue.job j where j.id = l.parent) is null
)
select coalesce(array_agg(waiter), '{}') as "waiters!", coalesce(array_agg(parent), '{}') as "parents!",
       coalesce(array_agg(outcome), '{}') as "outcomes!",
       (select waiter from looked offset $3 - 1) as last_waiter, (select parent from looked offset $3 - 1) as last_parent
from ended
