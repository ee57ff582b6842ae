-- queue.bulk_matching
-- $1 after this id, $2 up to this id, $3 live states, $4 outcomes, $5 queue, $6 kind, $7 tenant, $8 priority, $9 text,
-- $10 to $15 spans of created_at, run_at and finished_at.
-- Both sides are read by their primary keys between two ids that bound how many rows there are.
select id as "id!", true as "is_live!", state as "state!", fence as "fence!"
from queue.job
where id > $1 and id <= $2 and state = any($3)
  and ($5::text is null or queue = $5) and ($6::text is null or kind = $6) and ($7::uuid is null or tenant = $7)
  and ($8::smallint is null or priority = $8) and ($9::text is null or strpos(note, $9) > 0)
  and ($10::timestamptz is null or created_at >= $10) and ($11::timestamptz is null or created_at < $11)
  and ($12::timestamptz is null or run_at >= $12) and ($13::timestamptz is null or run_at < $13)
  and $14::timestamptz is null and $15::timestamptz is null
union all
select id, false, outcome, fence
from queue.job_history
where id > $1 and id <= $2 and outcome = any($4)
  and ($5::text is null or queue = $5) and ($6::text is null or kind = $6) and ($7::uuid is null or tenant = $7)
  and ($8::smallint is null or priority = $8) and ($9::text is null or strpos(note, $9) > 0)
  and ($10::timestamptz is null or created_at >= $10) and ($11::timestamptz is null or created_at < $11)
  and ($12::timestamptz is null or run_at >= $12) and ($13::timestamptz is null or run_at < $13)
  and ($14::timestamptz is null or finished_at >= $14) and ($15::timestamptz is null or finished_at < $15)
order by 1
