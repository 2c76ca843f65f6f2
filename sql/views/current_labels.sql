-- current_labels: the labels that follow from the annotations as they are now.
--
-- annotation_hash tells the unit that wrote the row: the label has been the same since.
--
-- grain   one row per patch and label_rule

with

holding as (  -- the units that labelled what the slides and annotations are now

    select u.*
    from label_units as u
    inner join slide_tilings as t
        on u.slide_id = t.slide_id and u.patch_set = t.patch_set and u.fingerprint = t.fingerprint
    inner join annotated_slides as a
        on u.slide_id = a.slide_id and u.annotation_hash = md5(a.annotation_hash || t.fingerprint)
    where (u.label_rule = 'points') = (a.kind = 'point')

),

written as (

    select l.*, u.written_in
    from labels as l
    inner join label_units as u
        on
            l.slide_id = u.slide_id
            and l.patch_set = u.patch_set
            and l.label_rule = u.label_rule
            and l.annotation_hash = u.annotation_hash
            and l.part = u.part

),

newest as (

    select
        w.slide_id,
        w.patch_set,
        w.label_rule,
        w.x,
        w.y,
        arg_max_null(w.label, w.written_in) as label,
        arg_max(w.annotation_hash, w.written_in) as annotation_hash,
        w.bucket
    from written as w
    inner join holding as h
        on
            w.slide_id = h.slide_id
            and w.patch_set = h.patch_set
            and w.label_rule = h.label_rule
            and w.part = h.part
            and w.fingerprint = h.fingerprint
            and (w.annotation_hash = h.annotation_hash or w.written_in <= h.compared_with)
    group by all

)

select slide_id, patch_set, label_rule, x, y, label, annotation_hash, bucket
from newest
where label is not null
