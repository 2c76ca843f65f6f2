-- patch_units: how many up-to-date patches each part of a slide has, as the ledger counted them.
--
-- What it says is in slide_patches, too; but there all patches of the lake would have to be read.
-- A slide's patches are one commit: the latest that touched them. Its rows are cut into parts of 8,192.
--
-- grain   one row per slide, tiling and part that has patches

with

latest as (

    select
        slide_id,
        identity ->> 'patch_set' as patch_set,
        arg_max(fingerprint, table_version) as fingerprint,
        arg_max(rows, table_version) as rows
    from runs
    where stage = 'patches' and slide_id is not null and table_version is not null
    group by all

)

select
    l.slide_id,
    l.patch_set,
    l.fingerprint,
    p.part::integer as part,
    least(8192, l.rows - p.part * 8192) as rows
from latest as l
inner join slide_tilings as t
    on l.slide_id = t.slide_id and l.patch_set = t.patch_set and l.fingerprint = t.fingerprint,
    unnest(range(ceil(l.rows / 8192)::bigint)) as p (part)
