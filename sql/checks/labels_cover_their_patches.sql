-- labels_cover_their_patches: where a part of a slide was labelled by area, every patch has a label, and no other.

with

labelled as (

    select distinct p.slide_id, p.patch_set, p.part, u.label_rule
    from labelable_patches as p
    inner join label_units as u
        on
            p.slide_id = u.slide_id
            and p.patch_set = u.patch_set
            and p.part = u.part
            and p.annotation_hash = u.annotation_hash
    where u.label_rule <> 'points'

),

expected as (

    select l.slide_id, l.patch_set, l.label_rule, p.x, p.y
    from labelled as l
    inner join slide_patches as p on l.slide_id = p.slide_id and l.patch_set = p.patch_set and l.part = p.part

),

found as (

    select slide_id, patch_set, label_rule, x, y
    from current_labels
    where label_rule <> 'points'

)

select 'missing' as problem, slide_id, patch_set, label_rule, x, y
from (select * from expected except select * from found) as missing

union all

select 'without patch' as problem, slide_id, patch_set, label_rule, x, y
from (select * from found except select * from expected) as surplus

order by all
