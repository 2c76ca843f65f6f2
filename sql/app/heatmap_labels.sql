-- heatmap_labels: what annotations say of the patches of one slide, by a model's rule.
--
-- grain     one row per labelled patch
-- units     x, y, span_x, span_y: level-0 pixels; label: 1 tumor, 0 normal
-- params    $slide_id, $patch_set, $model_id

select p.x, p.y, p.span_x, p.span_y, l.label
from slide_patches as p
inner join current_labels as l
    on p.bucket = l.bucket and p.slide_id = l.slide_id and p.patch_set = l.patch_set and p.x = l.x and p.y = l.y
inner join models as m on l.label_rule = m.label_rule
where
    p.bucket = bucket_of($slide_id)
    and p.slide_id = $slide_id
    and p.patch_set = $patch_set
    and m.model_id = $model_id
order by p.y, p.x
