-- ledger_counts_what_is_there: a unit that the ledger calls ok has as many rows as it says.

with

newest as (

    select
        slide_id,
        identity ->> 'patch_set' as patch_set,
        identity ->> 'encoder_id' as encoder_id,
        part,
        fingerprint,
        arg_max(status, finished_at) as status,
        arg_max(rows, finished_at) as said
    from runs
    where stage = 'features' and slide_id is not null
    group by all

),

counted as (

    select slide_id, patch_set, encoder_id, part, count(*) as found
    from slide_features
    group by all

)

select n.slide_id, n.patch_set, n.encoder_id, n.part, n.said, coalesce(c.found, 0) as found
from newest as n
inner join slide_tilings as t
    on n.slide_id = t.slide_id and n.patch_set = t.patch_set and n.fingerprint = t.fingerprint
left join counted as c
    on n.slide_id = c.slide_id and n.patch_set = c.patch_set and n.encoder_id = c.encoder_id and n.part = c.part
where n.status = 'ok' and n.said <> coalesce(c.found, 0)
order by all
