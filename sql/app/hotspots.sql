-- hotspots: the patches of a slide with the highest probability, highest first, as a contact sheet takes them.
--
-- grain     one row per patch
-- units     x, y, span_x, span_y: level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel;
--           patch_px: edge of a patch as the model saw it, px; probability: 0 to 1
-- params    $slide_id, $patch_set
--           $patches   how many at most

with

hottest as (

    select slide_id, patch_set, model_id, path, x, y, span_x, span_y, probability
    from current_predictions
    where bucket = bucket_of($slide_id) and slide_id = $slide_id and patch_set = $patch_set
    order by probability desc, y, x
    limit $patches

)

select
    row_number() over (order by h.probability desc, h.y, h.x) as position,
    h.slide_id,
    h.path,
    h.x,
    h.y,
    h.span_x,
    h.span_y,
    s.mpp_x,
    s.mpp_y,
    m.patch_px,
    l.label,
    h.probability
from hottest as h
inner join slides as s on h.slide_id = s.slide_id
inner join models as m on h.model_id = m.model_id
left join current_labels as l
    on
        l.bucket = bucket_of($slide_id)
        and h.slide_id = l.slide_id
        and h.patch_set = l.patch_set
        and h.x = l.x
        and h.y = l.y
        and m.label_rule = l.label_rule
order by position
