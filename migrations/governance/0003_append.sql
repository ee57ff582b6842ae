-- A cheaper append; what it writes is the same to the byte.

-- As its owner, so that a role which may call it needs no right to write either table. The caller's search path is not
-- replaced, which would cost a tenth of an append: instead every name is qualified and there is no operator, so that the
-- path decides nothing. The members stand in the order of their names; `body` must be canonical JSON already, `kind` is
-- held to letters by its check.
create or replace function governance.append(
    kind text, actor uuid, job bigint, body text, out entry_seq bigint, out entry_hash bytea
)
    language plpgsql volatile security definer
    -- A plan that was made while the table was small would sort all of it for its last row.
    set enable_seqscan = off
as $$
declare
    origin pg_catalog.text;
begin
    if pg_catalog.textregexne(kind, '^[a-z][a-z0-9_.]{0,63}$') then
        raise exception 'an audit entry cannot be of kind %', kind using errcode = 'check_violation';
    end if;
    -- By its key: the scan that is forbidden above would count as so dear that it is compiled first.
    select h.origin into strict origin from governance.audit_head h where h.only_row for update;
    -- A statement of its own: its snapshot shows what whoever held the lock has committed. And one only, since each
    -- costs: the entry before, the content, the entry. The chain's time does not run backwards when the server's clock
    -- does.
    insert into governance.audit_entry (seq, at, approval, content, hash)
    select next.seq, next.at,
           case when pg_catalog.strpos(body, '"approval"') operator(pg_catalog.>) 0
                then pg_catalog.json_object_field_text(cast(body as pg_catalog.json), 'approval') end,
           made.content, pg_catalog.sha256(pg_catalog.byteacat(made.content, next.previous))
      from (select coalesce(pg_catalog.int8inc(last.seq), 1) as seq,
                   greatest(pg_catalog.clock_timestamp(), last.at) as at,
                   coalesce(last.hash, governance.genesis(origin)) as previous
              from (select) as always
              left join lateral (
                    select e.seq, e.hash, e.at from governance.audit_entry e order by e.seq desc limit 1
                   ) as last on true
            offset 0) as next
     cross join lateral (
            select pg_catalog.convert_to(pg_catalog.concat(
                       '{"actor":', case when actor is null then 'null' else pg_catalog.concat('"', actor, '"') end,
                       ',"at":"', pg_catalog.to_char(pg_catalog.timezone('UTC', next.at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                       '","body":', body,
                       ',"job":', case when job is null then 'null' else pg_catalog.concat('"', job, '"') end,
                       ',"kind":"', kind,
                       '","seq":', next.seq,
                       ',"tag":"tenure.audit.v1"}'), 'UTF8') as content
            offset 0) as made
    returning seq, hash into entry_seq, entry_hash;
end
$$;
