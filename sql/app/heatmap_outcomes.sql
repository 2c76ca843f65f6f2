-- heatmap_outcomes: what a model says of the labelled patches of one slide, beside what annotations say.
--
-- grain     one row per patch that is labelled by the model's rule and scored
-- units     x, y, span_x, span_y: level-0 pixels; label: 1 tumor, 0 normal;
--           called: 1 where the probability reaches the model's threshold, else 0
-- params    $slide_id, $patch_set, $model_id

select
    p.x,
    p.y,
    p.span_x,
    p.span_y,
    l.label,
    (p.probability >= m.threshold)::integer as called
from slide_predictions as p
inner join models as m on p.model_id = m.model_id
inner join current_labels as l
    on
        p.bucket = l.bucket
        and p.slide_id = l.slide_id
        and p.patch_set = l.patch_set
        and p.x = l.x
        and p.y = l.y
        and m.label_rule = l.label_rule
where
    p.bucket = bucket_of($slide_id)
    and p.slide_id = $slide_id
    and p.patch_set = $patch_set
    and p.model_id = $model_id
order by p.y, p.x
