-- Why a job is not running, and what kept it waiting before. Present reasons are computed when somebody asks; of the past
-- only what would be lost is written down: a row when a job goes back to wait, a row when a queue was closed.

-- What a worker can run. Empty for those that were registered before this was known.
alter table queue.worker add column kinds text[] not null default '{}';

-- A job that was put back, or moved by somebody, and until when it shall wait.
create table queue.reason_change (
    job        bigint      not null,
    fence      bigint      not null, -- of the move
    at         timestamptz not null,
    due_at     timestamptz not null, -- its run_at before
    started_at timestamptz,          -- the attempt that ended here
    until      timestamptz not null, -- its run_at since
    reason     smallint    not null, -- as in queue.job
    evidence   text,
    constraint reason_change_pkey primary key (job, fence, at)
) partition by range (at);

-- When a queue was closed. The open end is now() as long as queue.queue says so.
create table queue.pause (
    queue      text        not null,
    paused_at  timestamptz not null,
    resumed_at timestamptz not null,
    paused_by  text,
    reason     text,
    constraint pause_pkey primary key (queue, paused_at)
);

-- Tenants whose jobs wait until they are thawed.
create table queue.frozen_tenant (
    tenant    uuid        not null,
    frozen_at timestamptz not null default now(),
    frozen_by text        not null,
    reason    text        not null,
    constraint frozen_tenant_pkey primary key (tenant)
);

-- The tenant's waiting and ready jobs, for freezing and thawing. Jobs of the platform are not in it.
create index job_by_tenant on queue.job (tenant, id) where tenant is not null and state in (0, 2);

-- The workers that could take a job of this kind from this queue now. One that was not heard of for 30 s is not counted.
create function queue.living_workers(queue_name text, kind_name text) returns setof queue.worker
language sql stable as $$
    select * from queue.worker w
    where w.ended_at is null and not w.stopping and w.last_seen_at > now() - interval '30 s'
      and queue_name = any(w.queues) and (w.kinds = '{}' or kind_name = any(w.kinds))
$$;

-- Why the job is not running: exactly one reason for a job that is live, none for one that has ended, no row for one that
-- is not there. `until` is the time before which nothing changes by itself; null when it can change at any moment.
-- The order of the questions is the precedence: first what only a person ends, then what time ends, then what capacity does.
create function queue.explain(job_id bigint)
returns table (state text, reason text, since timestamptz, until timestamptz, evidence jsonb)
language plpgsql stable set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    j        queue.job;
    closed   queue.queue;
    frozen   queue.frozen_tenant;
    w        queue.worker;
    workers  bigint;
    ahead    bigint;
    free     bigint;
    blocked  record;
begin
    select * into j from queue.job where id = job_id;
    if not found then
        return query select case h.outcome when 1 then 'succeeded' when 2 then 'failed' else 'cancelled' end,
                            null::text, h.finished_at, null::timestamptz, jsonb_build_object('note', h.note)
                     from queue.job_history h where h.id = job_id order by h.finished_at desc limit 1;
        return;
    end if;
    state := (array['ready', 'running', 'waiting', 'quarantined'])[j.state + 1];
    since := j.run_at;

    if j.state = 3 then
        reason := 'quarantined';
        since := (select max(a.finished_at) from queue.attempt a where a.job = job_id);
        evidence := jsonb_build_object('crashes', j.crashes, 'note', j.note, 'attempts', (
            select jsonb_agg(a order by a.fence) from (
                select number, outcome, worker, finished_at, error, fence from queue.attempt where job = job_id
                order by fence desc limit 10) a));
        return next; return;
    end if;

    if j.state = 1 then
        select * into w from queue.worker where id = j.worker;
        reason := 'lease_held'; since := j.started_at; until := j.lease_expires_at;
        evidence := jsonb_build_object('worker', coalesce(w.name, j.worker::text), 'lease_expires_at', j.lease_expires_at,
            'attempt', j.attempt, 'progress', j.progress, 'cancel_requested', j.cancel_requested);
        return next; return;
    end if;

    select * into frozen from queue.frozen_tenant f where f.tenant = j.tenant;
    if found then
        reason := 'tenant_frozen'; since := frozen.frozen_at;
        evidence := jsonb_build_object('by', frozen.frozen_by, 'why', frozen.reason);
        return next; return;
    end if;

    select * into closed from queue.queue q where q.name = j.queue and q.paused_at is not null;
    if found then
        reason := 'queue_paused'; since := closed.paused_at;
        evidence := jsonb_build_object('queue', j.queue, 'by', closed.paused_by, 'why', closed.pause_reason);
        return next; return;
    end if;

    if j.state = 2 then
        reason := 'waiting_on'; since := j.created_at;
        evidence := jsonb_build_object(
            'count', (select count(*) from queue.dependency d where d.waiter = job_id and d.settled_at is null),
            'jobs', (select jsonb_agg(jsonb_build_object('job', p.parent::text, 'kind', p.kind,
                        'state', (array['ready', 'running', 'waiting', 'quarantined'])[p.state + 1]) order by p.parent)
                     from queue.waits_for(job_id, 10) p));
        return next; return;
    end if;

    if j.run_at > now() then
        since := coalesce((select max(c.at) from queue.reason_change c where c.job = job_id), j.created_at);
        until := j.run_at;
        reason := case j.reason when 1 then 'retry_backoff' when 6 then 'retry_backoff' when 2 then 'throttled'
            when 3 then 'snoozed' when 5 then 'no_live_worker' when 9 then 'awaiting_approval'
            when 10 then 'throttled' else 'scheduled' end;
        evidence := case when reason = 'no_live_worker'
            then jsonb_build_object('queue', j.queue, 'kind', j.kind, 'note', j.note)
            else jsonb_build_object('failures', j.failures, 'attempts_max', j.attempts_max, 'note', j.note) end;
        return next; return;
    end if;

    select count(*), coalesce(sum(slots), 0) - coalesce(sum((select count(*) from queue.job r where r.state = 1 and r.worker = lw.id)), 0)
    into workers, free from queue.living_workers(j.queue, j.kind) lw;
    if workers = 0 then
        reason := 'no_live_worker';
        evidence := jsonb_build_object('queue', j.queue, 'kind', j.kind, 'workers_of_the_queue',
            (select count(*) from queue.worker o where o.ended_at is null and not o.stopping
                and o.last_seen_at > now() - interval '30 s' and j.queue = any(o.queues)));
        return next; return;
    end if;

    if j.suspect then
        reason := 'isolation';
        evidence := jsonb_build_object('note', j.note, 'workers', workers);
        return next; return;
    end if;

    -- Caps and rates of a governed queue, the queue's own before those of the tenant.
    select b.* into blocked from queue.blocked_by_limit(job_id) b order by b.cap_or_rate, b.tenant is not null or b.each_tenant limit 1;
    if found and blocked.cap_or_rate = 'cap' then
        reason := 'cap_full';
        evidence := jsonb_build_object('queue', nullif(blocked.queue, '*'), 'tenant', blocked.tenant,
            'each_tenant', blocked.each_tenant, 'allowed', blocked.allowed, 'held_by', (
                select jsonb_agg(jsonb_build_object('job', h.id::text, 'worker', coalesce(o.name, h.worker::text),
                    'lease_expires_at', h.lease_expires_at) order by h.id)
                from queue.job h left join queue.worker o on o.id = h.worker
                where h.id = any(blocked.held_by[:10])));
        return next; return;
    elsif found then
        reason := 'throttled'; until := blocked.until;
        evidence := jsonb_build_object('key', blocked.key, 'note', format('the rate of %s is used up', blocked.key));
        return next; return;
    end if;

    -- In the order in which lanes are drawn: by the due time, later by a minute for each step of lower priority.
    select count(*) into ahead from (
        select from generate_series(0, 3) as lane(priority), lateral (
            select from queue.job o
            where o.queue = j.queue and o.priority = lane.priority and o.state = 0 and not o.suspect
              and o.governed is null and (o.run_at, o.id) < (least(now(), j.run_at + (j.priority - lane.priority) * interval '60 s'), j.id)
            limit 10001) found
        limit 10001) counted;
    -- In a governed queue its own tenant's line, whose length another's jobs do not change.
    if j.governed then
        select ahead + count(*) into ahead from (
            select from queue.job o
            where o.queue = j.queue and o.state = 0 and not o.suspect and o.governed
              and coalesce(o.tenant, '00000000-0000-0000-0000-000000000000')
                  = coalesce(j.tenant, '00000000-0000-0000-0000-000000000000')
              and (o.run_at + o.priority * interval '60 s', o.id) < (j.run_at + j.priority * interval '60 s', j.id)
            limit 10001) counted;
    end if;
    reason := 'behind';
    evidence := jsonb_build_object('ahead', least(ahead, 10000), 'more', ahead > 10000, 'workers', workers,
        'free_slots', greatest(free, 0));
    return next;
end
$$;

-- What has kept the job, from its enqueueing to now or to its end: intervals in their order, those that overlap the same
-- wait beside each other. Turns are read from reason_change; closed queues and absent workers from their own records.
create function queue.timeline(job_id bigint)
returns table (since timestamptz, until timestamptz, reason text, evidence jsonb)
language sql stable set enable_seqscan = off set jit = off as $$
    with j as (
        select id, queue, kind, tenant, created_at, run_at, state = 1 as running, started_at, null::timestamptz as finished_at
        from queue.job where id = job_id
        union all
        select id, queue, kind, tenant, created_at, run_at, false, started_at, finished_at
        from queue.job_history where id = job_id
    ), change as (
        select c.*, lag(c.at) over (order by c.at, c.fence) as entered_at, lag(c.reason) over (order by c.at, c.fence) as entered_by,
            lag(c.evidence) over (order by c.at, c.fence) as entered_why
        from queue.reason_change c where c.job = job_id
    ), latest as (
        select at, reason, evidence from change order by at desc, fence desc limit 1
    ), turn as (
        -- Each time it was put into the queue: when, why, when due, when taken, and when that attempt ended.
        select coalesce(c.entered_at, j.created_at) as entered_at, coalesce(c.entered_by, 0) as entered_by, c.entered_why,
            c.due_at, c.started_at, c.at as ended_at
        from change c cross join j
        union all
        select coalesce(l.at, j.created_at), coalesce(l.reason, 0), l.evidence, j.run_at,
            case when (j.running or j.finished_at is not null) and j.started_at >= coalesce(l.at, j.created_at) then j.started_at end,
            j.finished_at
        from j left join latest l on true
    ), depended as (
        -- Until when it waited for other jobs; null if for none.
        select case when bool_or(settled_at is null) then 'infinity' else max(settled_at) end as until
        from queue.dependency where waiter = job_id and policy < 3
    ), wait as (
        select t.*, tstzrange(greatest(t.entered_at, t.due_at), coalesce(t.started_at, t.ended_at, now())) as due
        from turn t cross join depended
        where greatest(t.entered_at, t.due_at) < coalesce(t.started_at, t.ended_at, now())
          and depended.until is distinct from 'infinity'
    ), obstacle as (
        select w.due,
            tstzmultirange(w.due) * coalesce((
                select range_agg(tstzrange(p.paused_at, p.resumed_at)) from (
                    select paused_at, resumed_at from queue.pause where pause.queue = j.queue
                    union all
                    select paused_at, 'infinity' from queue.queue q where q.name = j.queue and q.paused_at is not null) p
                where p.paused_at < p.resumed_at), '{}') as paused,
            tstzmultirange(w.due) - coalesce((
                select range_agg(tstzrange(o.started_at, case
                    when o.ended_at is not null then greatest(o.started_at, o.ended_at)
                    when o.last_seen_at > now() - interval '30 s' then 'infinity'
                    else o.last_seen_at + interval '30 s' end))
                from queue.worker o where j.queue = any(o.queues) and (o.kinds = '{}' or j.kind = any(o.kinds))), '{}') as deserted
        from wait w cross join j
    )
    select t.entered_at, t.due_at,
        case t.entered_by when 1 then 'retry_backoff' when 6 then 'retry_backoff' when 2 then 'throttled' when 3 then 'snoozed'
            when 5 then 'no_live_worker' when 7 then 'waiting_on' when 8 then 'tenant_frozen' when 9 then 'awaiting_approval'
            when 10 then 'throttled'
            -- A job that is released is due from then on.
            else case when depended.until >= t.due_at - interval '1 s' then 'waiting_on' else 'scheduled' end end,
        jsonb_build_object('note', t.entered_why)
    from turn t cross join depended where t.due_at > t.entered_at
    union all
    select greatest(t.entered_at, t.due_at), now(), 'waiting_on', '{}'
    from turn t cross join depended
    where depended.until = 'infinity' and t.entered_by = 0 and t.started_at is null
    union all
    select lower(r), upper(r), 'queue_paused', '{}' from obstacle, unnest(paused) as r
    union all
    select lower(r), upper(r), 'no_live_worker', jsonb_build_object('queue', j.queue, 'kind', j.kind)
    from obstacle cross join j, unnest(deserted - paused) as r
    union all
    select lower(r), upper(r), 'behind', jsonb_build_object('started_meanwhile', (
        -- Among its neighbours by age: a look at every job that ever ended would take too long.
        select count(*) from (
            select from queue.job_history h
            where h.queue = j.queue and h.id between j.id - 100000 and j.id + 100000 and h.id <> j.id
              and h.finished_at >= lower(r) and h.started_at >= lower(r) and h.started_at < upper(r)
            limit 10000) started))
    from obstacle cross join j, unnest(tstzmultirange(due) - paused - deserted) as r
    union all
    select t.started_at, coalesce(t.ended_at, now()), 'running', jsonb_build_object('error', a.error,
        'outcome', (array['failed', 'timed_out', 'panicked', 'lost', 'crashed', 'cancelled'])[a.outcome])
    from turn t left join queue.attempt a on a.job = job_id and a.started_at = t.started_at
    where t.started_at is not null
    order by 1, 2
$$;
