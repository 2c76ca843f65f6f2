-- feature_units: how many up-to-date embeddings each part of a slide has, as the ledger counted them.
--
-- What it says is in slide_features, too; but there the features of all slides would have to be read. The latest commit
-- of a part holds its rows, unless a later one, of another fingerprint, took away those of all parts.
--
-- grain   one row per slide, tiling, encoder and part that has embeddings

with

commits as (

    select
        slide_id,
        identity ->> 'patch_set' as patch_set,
        identity ->> 'encoder_id' as encoder_id,
        fingerprint,
        part,
        rows,
        table_version
    from runs
    where stage = 'features' and slide_id is not null and table_version is not null

),

last as (

    select slide_id, patch_set, encoder_id, fingerprint, max(table_version) as table_version
    from commits
    group by all

),

held as (  -- of which fingerprint, and since which commit of another one

    select
        slide_id,
        patch_set,
        encoder_id,
        arg_max(fingerprint, table_version) as fingerprint,
        coalesce(list_reverse_sort(list(table_version))[2], -1) as wiped_in
    from last
    group by all

)

select
    c.slide_id,
    c.patch_set,
    c.encoder_id,
    c.fingerprint,
    c.part,
    arg_max(c.rows, c.table_version) as rows
from commits as c
inner join held as h
    on
        c.slide_id = h.slide_id
        and c.patch_set = h.patch_set
        and c.encoder_id = h.encoder_id
        and c.fingerprint = h.fingerprint
        and c.table_version > h.wiped_in
inner join slide_tilings as t
    on c.slide_id = t.slide_id and c.patch_set = t.patch_set and c.fingerprint = t.fingerprint
group by all
having arg_max(c.rows, c.table_version) > 0
