-- What counts as the truth about a case: nobody's word who knew another's, and nothing that we may have written.

create index review_case_by_shadow on tenant.review_case (shadow_case);
create index writeback_by_approval on tenant.writeback (approval) where approval is not null;

-- Whether two persons said this of a case, each by the first word that they gave on it, and without having been shown
-- another's on whichever case over the same input.
create or replace function tenant.two_persons_said(named bigint, said text, wanted jsonb) returns boolean
    language sql stable
as $$
    select count(*) >= 2 from (
        select distinct on (actor) actor, verdict, value, said_at from tenant.shadow_baseline
        where case_id = named order by actor, number
    ) first
    where verdict = said and value::text is not distinct from wanted::text
      and not exists (
        select from tenant.review_seen s join tenant.review_case c on c.id = s.review_case
        where c.shadow_case = named and s.actor = first.actor and s.seen_at <= first.said_at)
$$;

delete from tenant.shadow_truth where source = 'reviewer' and not tenant.two_persons_said(case_id, verdict, value);

-- As before, and nothing is observed where what the sync brings may be our own doing: an intent and a case that come at
-- the same moment do not see each other, so the writebacks are asked here, where both have committed.
create or replace function tenant.observe_truth() returns trigger
    language plpgsql
as $$
begin
    insert into tenant.shadow_truth (case_id, source, verdict, value)
    select c.id, 'observed', 'fix',
        (select jsonb_object_agg(f, coalesce(n.data -> f, 'null')) from jsonb_object_keys(c.original) as f)
    from new_rows n join old_rows o using (connector, stream, key)
        join tenant.shadow_case c using (connector, stream, key)
    where c.written_at is null and n.deleted_at is null and c.frozen_at > now() - interval '14 days'
      and exists (select from jsonb_object_keys(c.original) as f where n.data -> f is distinct from o.data -> f)
      and not exists (
        select from tenant.writeback w
        where (w.connector, w.stream, w.key) = (c.connector, c.stream, c.key) and w.state <> 'not_applied'
          and w.intent_at >= least(c.frozen_at, o.changed_at))
    order by c.id
    on conflict (case_id, source) do nothing;
    return null;
end
$$;
