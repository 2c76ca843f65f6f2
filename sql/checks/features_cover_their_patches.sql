-- features_cover_their_patches: where a part of a slide was embedded, every patch of it has its row, and no other.

with

embedded as (

    select distinct slide_id, patch_set, encoder_id, part
    from slide_features

),

expected as (

    select p.slide_id, p.patch_set, e.encoder_id, p.x, p.y
    from slide_patches as p
    inner join embedded as e on p.slide_id = e.slide_id and p.patch_set = e.patch_set and p.part = e.part

),

found as (

    select slide_id, patch_set, encoder_id, x, y
    from slide_features

)

select 'missing' as problem, slide_id, patch_set, encoder_id, x, y
from (select * from expected except select * from found) as missing

union all

select 'without patch' as problem, slide_id, patch_set, encoder_id, x, y
from (select * from found except select * from expected) as surplus

order by all
