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
