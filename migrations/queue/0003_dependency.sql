-- A job may wait for others. The edges are the truth: a waiter leaves `waiting` when they say so, by whichever statement
-- finds it out first. Nothing here refers to queue.job by a foreign key, which would cost every finishing job a trigger.

-- Some job waits for this one: whoever ends it looks for waiters. Never set, it costs a finishing job nothing.
alter table queue.job add column awaited boolean not null default false;

-- 7 says what the job waits for; as a reason of another state it would mislead.
alter table queue.job add constraint job_dependency_waits check (reason <> 7 or state = 2) not valid;

create table queue.dependency (
    waiter     bigint      not null,
    parent     bigint      not null,
    settled_at timestamptz,
    policy     smallint    not null, -- if the parent does not succeed: 0 the waiter fails, 1 it is released, 2 all the same; 3 not waited for: it fanned out into the waiter
    outcome    smallint,             -- how the parent ended, as in job_history; 0 not known; null: not yet
    constraint dependency_pkey primary key (waiter, parent),
    constraint dependency_not_on_itself check (waiter <> parent),
    constraint dependency_policy_known check (policy between 0 and 3),
    constraint dependency_outcome_known check (outcome between 0 and 3),
    constraint dependency_settled_with_outcome check ((outcome is null) = (settled_at is null)),
    constraint dependency_origin_has_ended check (policy <> 3 or outcome is not null)
) with (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

create index dependency_parent on queue.dependency (parent, outcome, waiter);
-- Says `settled_at is null` where those who look for a parent say `outcome is null`, which comes to the same: so the
-- planner cannot take this index for them and read all of it, as it would while the table is small.
create index dependency_open on queue.dependency (waiter, parent) where settled_at is null;
create index dependency_bad on queue.dependency (waiter, parent) where outcome <> 1 and policy < 2;
create index dependency_settled on queue.dependency (settled_at) where settled_at is not null;

comment on table queue.dependency is 'who waits for whom; kept as long as history';

-- Takes in how parents have ended, one edge per element, and moves the waiters whose fate that decides: to `ready`, or
-- to history as failed. Answers those that moved.
--
-- A function, because each of its statements must see what the one before it waited for: two parents that end at the
-- same time lock the waiter one after the other, and the second sees the first one's edge settled.
create function queue.settle_dependencies(waiters bigint[], parents bigint[], outcomes smallint[])
returns table (id bigint, queue text, failed boolean, awaited boolean)
language plpgsql volatile
-- Planned anew with each call: a plan made on an empty table reads whole indexes, and would be kept.
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = on set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
    perform from queue.job j
    where j.id in (select w from unnest(waiters) as w) and j.state = 2
    order by j.id for update;

    update queue.dependency d set outcome = e.outcome, settled_at = now()
    from unnest(waiters, parents, outcomes) as e(waiter, parent, outcome)
    where d.waiter = e.waiter and d.parent = e.parent and d.outcome is null;

    return query
    with fate as materialized (
        select j.id, bad.parent as culprit, bad.outcome as culprit_outcome, coalesce(bad.policy = 0, false) as fails
        from (select distinct w as id from unnest(waiters) as w order by 1) as w
        join queue.job j on j.id = w.id and j.state = 2 and j.reason = 7
        -- A dependency that had to succeed outweighs one whose failure releases.
        left join lateral (
            select b.parent, b.outcome, b.policy from queue.dependency b
            where b.waiter = w.id and b.outcome <> 1 and b.policy < 2 order by b.policy, b.parent limit 1
        ) as bad on true
        where bad.parent is not null
           or not exists (select from queue.dependency o where o.waiter = w.id and o.settled_at is null)
    ), gone as (
        delete from queue.job j using fate f where j.id = f.id and f.fails
        returning j.*, f.culprit, f.culprit_outcome
    ), kept as (
        insert into queue.job_history
            (id, fence, run_at, created_at, started_at, finished_at, worker, outcome, priority, attempt, attempts_max,
             failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, note)
        select g.id, g.fence, g.run_at, g.created_at, g.started_at, now(), g.worker, 2, g.priority, g.attempt,
               g.attempts_max, g.failures, g.losses, g.crashes, g.tenant, g.queue, g.kind, g.payload, g.unique_key,
               g.rate_key, g.traceparent,
               format('its dependency, job %s, %s', g.culprit, case g.culprit_outcome
                   when 2 then 'failed' when 3 then 'was cancelled' else 'is gone: how it ended is not known' end)
        from gone g
    ), freed as (
        -- Not before now: a claimer's low-water mark may have passed the time for which it was enqueued.
        update queue.job j set state = 0, reason = 0, note = null, run_at = greatest(j.run_at, clock_timestamp())
        from fate f where j.id = f.id and not f.fails
        returning j.id, j.queue
    )
    select g.id, g.queue, true, g.awaited from gone g
    union all
    select r.id, r.queue, false, false from freed r;
end $$;

-- What a job still waits for: its parents that have not ended, the oldest first, at most `most` of them. For explain.
create function queue.waits_for(waiter bigint, most integer)
returns table (parent bigint, state smallint, kind text, queue text, run_at timestamptz)
language sql stable
begin atomic
    select d.parent, j.state, j.kind, j.queue, j.run_at
    from queue.dependency d left join queue.job j on j.id = d.parent
    where d.waiter = waits_for.waiter and d.settled_at is null
    order by d.parent limit most;
end;
