-- Governed queues: caps on what runs at once, rates of starting, turns between tenants. Whoever sets none pays for none:
-- a job that is not governed is in none of these indexes, and its columns are null.

-- A job of a governed queue, once it is due, stands in its tenant's line; it stays marked while it runs, so that it can
-- be counted. Null rather than false: a null takes no room in the row.
alter table queue.job add column governed boolean, add column rate_key text,
    add constraint job_governed_or_null check (governed);
alter table queue.job_history add column rate_key text;

drop index queue.job_ready;
create index job_ready on queue.job (queue, priority, run_at, id) where state = 0 and not suspect and governed is null;
-- Jobs without a tenant are one more participant: nil.
create index job_line on queue.job
    (queue, coalesce(tenant, '00000000-0000-0000-0000-000000000000'), priority, run_at, id)
    where state = 0 and not suspect and governed;
create index job_held on queue.job (queue, fence) where state = 1 and governed;
create index job_held_by on queue.job (coalesce(tenant, '00000000-0000-0000-0000-000000000000')) where state = 1 and governed;

-- The queues that only the governed claim may claim from; `*` stands for all. Derived from the settings below by
-- queue.govern, except `fair`: turns between tenants without any limit.
create table queue.governed (
    queue text    not null,
    fair  boolean not null default false,
    constraint governed_pkey primary key (queue)
);

-- How many may run at once: of a queue, of one tenant, of each tenant. Under `*` the queues are counted together.
create table queue.cap (
    queue       text    not null,
    tenant      uuid,
    each_tenant boolean not null default false,
    running_max integer not null,
    constraint cap_positive check (running_max >= 1),
    constraint cap_of_one_or_each check (tenant is null or not each_tenant),
    constraint cap_names_something check (queue <> '*' or tenant is not null or each_tenant)
);
create unique index cap_scope on queue.cap (queue, each_tenant, coalesce(tenant, '00000000-0000-0000-0000-000000000000'));

-- Jobs a tenant may start in one round, where it is not 1.
create table queue.weight (
    tenant uuid    not null,
    weight integer not null,
    constraint weight_pkey primary key (tenant),
    constraint weight_in_bounds check (weight between 1 and 1000)
);

-- How often jobs with a key may start: a token bucket, kept as the time at which it would be full but for one token
-- ("theoretical arrival time", ITU-T I.371). A start at t is admitted if t >= full_at - (burst - 1) * spacing; then
-- full_at = greatest(full_at, t) + spacing. So any span of length w sees at most burst + w / spacing starts.
create table queue.rate (
    queue    text        not null, -- `*`: one bucket for all queues
    key      text        not null,
    starts   integer     not null,
    per      interval    not null,
    burst    integer     not null,
    spacing  interval    not null, -- per / starts, rounded up to the microsecond
    full_at  timestamptz not null default '-infinity',
    line_end timestamptz not null default '-infinity', -- the time given to the job that was put off last
    constraint rate_pkey primary key (queue, key),
    constraint rate_starts_positive check (starts >= 1),
    constraint rate_burst_positive check (burst >= 1),
    constraint rate_spacing_positive check (spacing >= interval '1 microsecond' and per > interval '0')
);

-- Whose turn it was. One live row per queue, the one with the highest fence: it is replaced rather than updated, so that
-- it is the last entry of its index and found at once, whatever dead rows an old snapshot pins before it.
create table queue.turn (
    queue     text    not null,
    fence     bigint  not null,
    tenant    uuid    not null, -- who was served last
    served    integer not null, -- jobs of its share in this round, 0 if it has had all of it
    held_from bigint  not null, -- no running job of the queue has a lower fence
    constraint turn_pkey primary key (queue, fence)
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

-- Brings queue.governed in line with the settings. The caller holds it in exclusive mode: every plain claim names it `for
-- share`, so none is under way, and the next will see what is written here. From then on the queue's running jobs count.
create function queue.govern() returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(8175552253447594352);
    insert into queue.governed (queue)
        select c.queue from queue.cap c union select r.queue from queue.rate r on conflict do nothing;
    if found then
        -- What ran outside may have lower fences than these have seen.
        delete from queue.turn;
    end if;
    delete from queue.governed g
        where not fair and not exists (select from queue.cap c where c.queue = g.queue)
          and not exists (select from queue.rate r where r.queue = g.queue);
    with running as materialized (
        select j.id from queue.job j
        where j.state = 1 and j.governed is null and exists (select from queue.governed g where g.queue in (j.queue, '*'))
        order by j.id for update
    )
    update queue.job j set governed = true from running where j.id = running.id;
end
$$;

-- The caps that bind a participant of a queue: its own before the one for each.
create function queue.caps_of(the_queue text, who uuid)
returns table (queue text, tenant uuid, each_tenant boolean, running_max integer) language sql stable as $$
    select distinct on (c.queue, c.tenant is not null or c.each_tenant) c.queue, c.tenant, c.each_tenant, c.running_max
    from queue.cap c
    where c.queue in (the_queue, '*') and (c.tenant is null or c.tenant = who)
    order by c.queue, c.tenant is not null or c.each_tenant, c.each_tenant
$$;

-- How many jobs count against a cap, not counting beyond `at_most`; of all participants of the queue if none is named.
create function queue.held_under(cap_queue text, who uuid, at_most integer) returns bigint language plpgsql stable as $$
begin
    if who is null then
        return (select count(*) from (
            select from queue.job j where j.queue = cap_queue and j.state = 1 and j.governed limit at_most) as counted);
    end if;
    return (select count(*) from (
        select from queue.job j
        where coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') = who and j.state = 1 and j.governed and cap_queue in (j.queue, '*')
        limit at_most) as counted);
end
$$;

-- How many more jobs of the participant may run as far as its own caps go; null if it has none.
create function queue.tenant_room(the_queue text, who uuid) returns bigint language plpgsql stable as $$
begin
    return (select min(greatest(c.running_max - queue.held_under(c.queue, who, c.running_max), 0))
            from queue.caps_of(the_queue, who) c where c.tenant is not null or c.each_tenant);
end
$$;

-- How many more may run of the queue as a whole; null if it has no cap.
create function queue.queue_room(the_queue text) returns bigint language plpgsql stable as $$
begin
    return (select greatest(c.running_max - queue.held_under(the_queue, null, c.running_max), 0)
            from queue.cap c where c.queue = the_queue and c.tenant is null and not c.each_tenant);
end
$$;

-- The participants with due work, from `first` on and round again. The caller stops it.
create function queue.round_from(the_queue text, first uuid, at_most integer)
returns table (who uuid, weight integer) language sql stable as $$
    with recursive ring as (
        select first as who, 1 as place
        union all
        select next.who, ring.place + 1 from ring cross join lateral (select coalesce(
            (select coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') from queue.job j
             where j.queue = the_queue and j.state = 0 and not j.suspect and j.governed
               and coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') > ring.who
             order by coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') limit 1),
            (select coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') from queue.job j
             where j.queue = the_queue and j.state = 0 and not j.suspect and j.governed
             order by coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') limit 1)) as who) as next
        where next.who <> first and ring.place < at_most
    )
    select ring.who, coalesce((select w.weight from queue.weight w where w.tenant = ring.who), 1) from ring
$$;

-- Locks a participant's next due jobs, from lane to lane in the order of their aged heads, as the plain claim does.
create function queue.draw(the_queue text, who uuid, aging_step float8, moment timestamptz, at_most bigint)
returns bigint[] language plpgsql volatile as $$
begin
    return (with drawn as (
        select lane.priority from unnest('{0,1,2,3}'::smallint[]) as lane(priority) cross join lateral (
            select j.run_at from queue.job j
            where j.queue = the_queue and coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') = who
              and j.priority = lane.priority and j.state = 0 and not j.suspect and j.governed and j.run_at <= moment
            order by j.run_at, j.id limit 1
        ) as head
        order by head.run_at + lane.priority * make_interval(secs => aging_step), lane.priority
    )
    select array_agg(picked.id) from (
        select due.id from drawn cross join lateral (
            select j.id from queue.job j
            where j.queue = the_queue and coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') = who
              and j.priority = drawn.priority and j.state = 0 and not j.suspect and j.governed and j.run_at <= moment
            order by j.run_at, j.id limit at_most for update skip locked
        ) as due
        limit at_most
    ) as picked);
end
$$;

-- Takes a token for each of the jobs that has a rate, and answers those that may start, at most so many. The others are put off to when a
-- token can be there for them, one after the other, but at most five minutes beyond the next: a line of jobs that were
-- called off must not hold up those that come later. The caller holds the lock of the caps.
create function queue.admit(the_queue text, ids bigint[], at_most bigint, moment timestamptz) returns bigint[] language plpgsql as $$
declare
    admitted bigint[] := '{}';
    j        record;
    free_at  timestamptz;
    slot     timestamptz;
    why      text;
begin
    for j in
        select k.id, k.fence, k.run_at, k.rate_key from unnest(ids) with ordinality as n(id, place)
        join queue.job k on k.id = n.id where k.id = any(ids) order by n.place
    loop
        exit when cardinality(admitted) = at_most;
        select max(r.full_at - (r.burst - 1) * r.spacing) into free_at
        from queue.rate r where r.key = j.rate_key and r.queue in (the_queue, '*');
        if free_at is null then
            admitted := admitted || j.id;
        elsif free_at <= moment then
            admitted := admitted || j.id;
            update queue.rate r set full_at = greatest(r.full_at, moment) + r.spacing
            where r.key = j.rate_key and r.queue in (the_queue, '*');
        else
            select max(greatest(r.line_end, free_at)) into slot
            from queue.rate r where r.key = j.rate_key and r.queue in (the_queue, '*');
            if slot > free_at + interval '5 minutes' then
                slot := free_at + interval '5 minutes' * random();
            else
                update queue.rate r set line_end = slot + r.spacing
                where r.key = j.rate_key and r.queue in (the_queue, '*');
            end if;
            why := format('the rate of %s is used up', j.rate_key);
            update queue.job k set run_at = slot, reason = 10, governed = null, note = why where k.id = j.id;
            insert into queue.reason_change (job, fence, at, due_at, until, reason, evidence)
            values (j.id, j.fence, moment, j.run_at, slot, 10, why);
        end if;
    end loop;
    return admitted;
end
$$;

-- Leases locked jobs.
create function queue.lease(ids bigint[], the_worker bigint, lease_secs float8, moment timestamptz)
returns setof queue.job language plpgsql volatile as $$
begin
    return query update queue.job j
    set state = 1, fence = nextval('queue.fence'), attempt = least(j.attempt, 32766) + 1, worker = the_worker,
        started_at = moment, lease_expires_at = moment + make_interval(secs => lease_secs), checkpointed = false,
        reason = 0, note = null, governed = true
    where j.id = any(ids)
    returning j.*;
end
$$;

-- With whom a claim begins: who was cut off in the middle of its share, or else the next in the round.
create function queue.next_in_turn(the_queue text, turn queue.turn) returns uuid language plpgsql stable as $$
declare
    who uuid;
begin
    if turn.served > 0 then
        select turn.tenant into who from queue.job j
        where j.queue = the_queue and coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') = turn.tenant
          and j.state = 0 and not j.suspect and j.governed limit 1;
    end if;
    if who is null then
        select coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') into who from queue.job j
        where j.queue = the_queue and coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') > turn.tenant
          and j.state = 0 and not j.suspect and j.governed
        order by coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') limit 1;
    end if;
    if who is null then
        select coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') into who from queue.job j
        where j.queue = the_queue and j.state = 0 and not j.suspect and j.governed
        order by coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') limit 1;
    end if;
    return who;
end
$$;

-- Claims up to `slots` jobs of a governed queue: round after round, each tenant its weight, under the caps and rates.
--
-- The lock comes first and the counting in later statements, each with a snapshot of its own (the isolation level must
-- be READ COMMITTED): a lock taken inside the statement that counts comes too late, since its snapshot is older than what
-- the last holder of the lock committed.
--
-- A row of nulls at the end says that it stopped before it had asked everybody: there may be more, even after nothing.
create function queue.claim_governed(the_queue text, the_worker bigint, lease_secs float8, slots bigint, aging_step float8)
returns setof queue.job language plpgsql volatile as $$
declare
    -- Bounds of one claim, so that the lock is not held for long: participants asked, jobs found without a token.
    visits_max   constant integer := 1000;
    put_off_max  constant integer := 500;
    turn         queue.turn;
    turn_fence   bigint;
    held         bigint;
    held_min     bigint;
    free         bigint;
    rated        boolean;
    moment       timestamptz;
    first        uuid;
    rounds       bigint;
    member       record;
    allotted     bigint;
    taken        bigint;
    gained       bigint;
    leased       bigint;
    drawn        bigint[];
    admitted     bigint[];
    visits       integer := 0;
    put_off      integer := 0;
    more         queue.job;
begin
    perform from queue.job j where j.queue = the_queue and j.state = 0 and not j.suspect and j.governed limit 1;
    if not found then return; end if;

    perform pg_advisory_xact_lock(8175552253447594352); -- "queuecap"

    perform from queue.queue q where q.name = the_queue and q.paused_at is not null;
    if found then return; end if;
    turn_fence := nextval('queue.fence');
    select * into turn from queue.turn t where t.queue = the_queue order by t.fence desc limit 1;
    select count(*), min(j.fence) into held, held_min
    from queue.job j where j.queue = the_queue and j.state = 1 and j.governed and j.fence >= coalesce(turn.held_from, 0);
    free := least(slots, (select c.running_max from queue.cap c
        where c.queue = the_queue and c.tenant is null and not c.each_tenant) - held);
    rated := exists (select from queue.rate r where r.queue in (the_queue, '*'));

    while free > 0 loop
        first := queue.next_in_turn(the_queue, turn);
        exit when first is null;
        if first is distinct from turn.tenant then turn.served := 0; end if;
        -- A few participants are served several rounds at one visit: as many as surely fit.
        select greatest(1, free / sum(r.weight)) into rounds
        from queue.round_from(the_queue, first, least(free, visits_max)::integer) r;
        gained := 0;
        for member in select r.who, r.weight from queue.round_from(the_queue, first, visits_max) r loop
            visits := visits + 1;
            allotted := least(free, queue.tenant_room(the_queue, member.who), member.weight * rounds - turn.served);
            taken := 0;
            while taken < allotted and put_off < put_off_max loop
                -- After the counting: so no start lies before the end that made room for it.
                moment := clock_timestamp();
                -- Some more where tokens may be missing: each look passes over those that were put off before it.
                drawn := queue.draw(the_queue, member.who, aging_step, moment, allotted - taken + case when rated then 50 else 0 end);
                exit when drawn is null;
                admitted := case when rated then queue.admit(the_queue, drawn, allotted - taken, moment) else drawn end;
                return query select * from queue.lease(admitted, the_worker, lease_secs, moment);
                get diagnostics leased = row_count;
                taken := taken + leased;
                exit when not rated or taken = allotted;
                put_off := put_off + cardinality(drawn) - leased::integer;
            end loop;
            free := free - taken;
            gained := gained + taken;
            turn.tenant := member.who;
            turn.served := case when free = 0 then (turn.served + taken) % member.weight else 0 end;
            exit when free = 0 or visits >= visits_max or put_off >= put_off_max;
        end loop;
        exit when gained = 0 or visits >= visits_max or put_off >= put_off_max;
    end loop;

    if visits > 0 then
        delete from queue.turn t where t.queue = the_queue and t.fence = turn.fence;
        insert into queue.turn values (the_queue, turn_fence, turn.tenant, turn.served, coalesce(held_min, turn_fence));
    end if;
    if free > 0 and (visits >= visits_max or put_off >= put_off_max) then
        return next more;
    end if;
end
$$;

-- Claims the suspect that has been due longest among those that caps and rates admit.
create function queue.claim_governed_suspect(the_queue text, the_worker bigint, lease_secs float8)
returns setof queue.job language plpgsql volatile as $$
declare
    asked_max constant integer := 100;
    moment    timestamptz;
    suspect   record;
    admitted  bigint[];
begin
    perform pg_advisory_xact_lock(8175552253447594352);
    perform from queue.queue q where q.name = the_queue and q.paused_at is not null;
    if found or queue.queue_room(the_queue) = 0 then return; end if;
    for suspect in
        select j.id, coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') as who from queue.job j
        where j.queue = the_queue and j.state = 0 and j.suspect and j.run_at <= now()
        order by j.run_at, j.id limit asked_max for update skip locked
    loop
        continue when queue.tenant_room(the_queue, suspect.who) = 0;
        moment := clock_timestamp();
        admitted := queue.admit(the_queue, array[suspect.id], 1, moment);
        return query select * from queue.lease(admitted, the_worker, lease_secs, moment);
        exit when cardinality(admitted) = 1;
    end loop;
end
$$;

-- Which limits keep the job from starting now: full caps with the jobs that hold them (at most a hundred), and rates with
-- the time of the next token.
create function queue.blocked_by_limit(job_id bigint)
returns table (cap_or_rate text, queue text, tenant uuid, each_tenant boolean, key text, allowed integer, held_by bigint[], until timestamptz)
language sql stable as $$
    select 'cap', c.queue, c.tenant, c.each_tenant, null::text, c.running_max, holders.ids, null::timestamptz
    from queue.job blocked
    cross join lateral (select coalesce(blocked.tenant, '00000000-0000-0000-0000-000000000000') as who) as participant
    cross join lateral queue.caps_of(blocked.queue, participant.who) c
    cross join lateral (
        select array_agg(h.id) as ids from (
            select j.id from queue.job j
            where j.state = 1 and j.governed and c.queue in (j.queue, '*')
              and (c.tenant is null and not c.each_tenant or coalesce(j.tenant, '00000000-0000-0000-0000-000000000000') = participant.who)
            order by j.id limit 100
        ) as h
    ) as holders
    where blocked.id = job_id and blocked.state = 0
      and queue.held_under(c.queue, case when c.tenant is not null or c.each_tenant then participant.who end, c.running_max)
          >= c.running_max
    union all
    select 'rate', r.queue, null::uuid, false, r.key, r.starts, null::bigint[], r.full_at - (r.burst - 1) * r.spacing
    from queue.job blocked join queue.rate r on r.key = blocked.rate_key and r.queue in (blocked.queue, '*')
    where blocked.id = job_id and blocked.state = 0 and r.full_at - (r.burst - 1) * r.spacing > now()
$$;
