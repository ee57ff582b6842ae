-- sample.make
-- A CRM of a few thousand contacts with the faults such data has. No chance is involved: row i is always the same.
create schema crm;

create table crm.accounts (
    id             bigint      primary key,
    name           text        not null,
    industry       text,
    country        text        not null,
    -- Thirty digits: an f64 on the way would lose the last ones.
    annual_revenue numeric(30, 4),
    updated_at     timestamptz not null
);

create table crm.contacts (
    id             bigint      primary key,
    account_id     bigint      not null references crm.accounts,
    full_name      text,
    email          text,
    phone          text,
    title          text,
    tags           text[]      not null,
    preferences    jsonb       not null,
    lifetime_value numeric     not null,
    notes          text,
    -- Null in a handful of rows that an old import left behind.
    updated_at     timestamptz
);
create index contacts_updated_at on crm.contacts (updated_at, id);

-- A table from before: no primary key, and some rows lack even the number that was meant to be one.
create table crm.legacy_leads (
    id         text,
    company    text not null,
    interest   text,
    updated_at timestamptz not null
);

insert into crm.accounts
select i,
       (array['Nordwind', 'Ōkami', 'Café Ñandú', 'Δέλτα', 'Zażółć', 'شركة النور', '山田商事', 'Brightside'])[1 + i % 8]
           || ' ' || (array['Ltd', 'GmbH', 'S.A.', 'K.K.', 'Inc.'])[1 + i % 5] || ' ' || i,
       case when i % 13 > 0 then (array['retail', 'energy', 'health', 'logistics', 'software'])[1 + i % 5] end,
       (array['DE', 'JP', 'AR', 'GR', 'PL', 'AE', 'US'])[1 + i % 7],
       case when i % 11 > 0 then 12345678901234567890123456.1234 + i end,
       timestamptz '2024-01-01 00:00:00+00' + i * interval '43 hours'
  from generate_series(1, 400) as i;

insert into crm.contacts
select i,
       1 + i % 400,
       -- Every hundredth has no name.
       case when i % 100 > 0 then
           (array['Ada', 'Björn', 'Çiğdem', 'Dóra', 'Emre', 'Фёдор', '花子', 'Ğülay', 'Zoë', 'Nguyễn'])[1 + i % 10]
           || ' ' || (array['Lovelace', 'O''Neill', 'Müller-Lüdenscheidt', 'Šimůnek', '王', 'de la Cruz', 'Ødegård'])[1 + i % 7]
       end,
       -- Every fortieth, until 120 are found, was entered again under another number and with capitals.
       case when i % 40 = 0 and i <= 4800 then upper('person' || i - 1 || '@example.com')
            else 'person' || i || '@example.com' end,
       -- Every sixteenth number is not one, or not written as one.
       case when i % 16 = 0
            then (array['n/a', '030 / 123456', '+49(30)123', '0', 'call after 5', '??'])[1 + (i / 16) % 6]
            else '+4930' || lpad((i * 7919 % 10000000)::text, 7, '0') end
           || case when i = 4999 then ' ext. 5' else '' end,
       (array['CEO', 'Buyer', 'Head of IT', null, 'Chef de projet', '部長'])[1 + i % 6],
       case i % 4 when 0 then '{}'::text[] when 1 then array['vip'] else array['news,letter', 'a "quoted" tag'] end,
       jsonb_build_object('language', (array['de', 'en', 'ja'])[1 + i % 3], 'opt_in', i % 2 = 0, 'depth', i % 5),
       case when i = 2500 then 123456789012345678901234567.891 else round(i * 17.25, 2) end,
       -- Three notes hold a whole mail archive.
       case when i in (1234, 2345, 3456) then repeat(md5(i::text), 40000)
            when i % 9 = 0 then E'Met at the fair.\nWants a call — “soon” 🙂' end,
       case
            when i % 700 = 0 then null
            -- One import touched 400 rows in the same instant.
            when i between 2001 and 2400 then timestamptz '2025-02-14 09:30:00+00'
            else timestamptz '2024-01-01 00:00:00+00' + i * interval '210 minutes 13 seconds'
       end
  from generate_series(1, 5000) as i;

-- Row 2100 is null too, so the tie has one row less: give it a neighbour's instant.
update crm.contacts set updated_at = timestamptz '2025-02-14 09:30:00+00' where id = 2401;

insert into crm.legacy_leads
select case when i % 20 > 0 then 'L-' || i end,
       'Company ' || i,
       (array['demo', 'price', null])[1 + i % 3],
       timestamptz '2023-03-01 00:00:00+00' + i * interval '3 hours'
  from generate_series(1, 250) as i;

-- What the people at the desk know: the number that is right where one is written badly. They alone read it. Every
-- thirteenth is in Munich, whatever a rule makes of the area code that is missing.
create table crm.desk (
    contact_id bigint primary key references crm.contacts,
    phone      text   not null
);

insert into crm.desk
select id, case when (id / 96) % 13 = 12 then '+4989123456' else '+4930123456' end
  from crm.contacts where phone = '030 / 123456';

-- The CRM stamps a row that changes; without it no sync would see what people do.
create function crm.stamp() returns trigger language plpgsql as $$
begin
    new.updated_at := clock_timestamp();
    return new;
end $$;
create trigger stamp before update on crm.contacts for each row execute function crm.stamp();

-- A system behind the CRM owns one contact: it answers every update with yes and keeps what it has.
create function crm.keep_phone() returns trigger language plpgsql as $$
begin
    new.phone := old.phone;
    return new;
end $$;
create trigger keep_phone before update on crm.contacts for each row when (old.id = 4912)
    execute function crm.keep_phone();

analyze crm.accounts, crm.contacts, crm.legacy_leads, crm.desk;
