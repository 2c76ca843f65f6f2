-- unit_changes: which units of work wrote rows of a table between two of its versions, by the ledger alone.
--
-- A unit is a slide, an identity (tiling, encoder, model …) and a part. No row of the table is read.
--
-- grain     one row per unit
-- units     rows_before, rows_after: as the ledger counted them; fingerprint: of what the rows were made from
-- params    $table_name
--           $from_version   Delta version, without it
--           $to_version     Delta version, with it

with

entries as (

    select *
    from runs
    where stage = $table_name and table_version <= $to_version and (parameters ->> 'operation') is null

),

before as (  -- the newest entry of every unit

    select *
    from entries
    where table_version <= $from_version
    qualify row_number() over (partition by slide_id, identity, part order by table_version desc, finished_at desc) = 1

),

later as (

    select *
    from entries
    where table_version > $from_version
    qualify row_number() over (partition by slide_id, identity, part order by table_version desc, finished_at desc) = 1

)

select
    case
        when b.run_id is null then 'added'
        when coalesce(b.fingerprint, '') <> coalesce(l.fingerprint, '') then 'made of another input'
        else 'written again'
    end as change,
    l.slide_id,
    l.identity,
    l.part,
    b.rows as rows_before,
    l.rows as rows_after,
    b.fingerprint as fingerprint_before,
    l.fingerprint as fingerprint_after,
    l.status,
    l.run_id,
    l.finished_at
from later as l
left join before as b
    on
        l.slide_id is not distinct from b.slide_id
        and l.identity = b.identity
        and l.part is not distinct from b.part
order by change, l.slide_id, l.identity, l.part
