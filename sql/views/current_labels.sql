-- current_labels: the labels that follow from the annotations as they are now.
--
-- grain   one row per patch and label_rule

select
    l.slide_id,
    l.patch_set,
    l.label_rule,
    l.x,
    l.y,
    l.label,
    l.bucket
from labels as l
inner join slide_tilings as t
    on l.slide_id = t.slide_id and l.patch_set = t.patch_set and l.fingerprint = t.fingerprint
inner join annotated_slides as a on l.slide_id = a.slide_id and l.annotation_hash = a.annotation_hash
where (l.label_rule = 'points') = (a.kind = 'point')
