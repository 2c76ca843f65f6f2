-- heatmap_outcomes: what a model says of the labelled patches of one slide, beside what annotations say.
--
-- grain     one row per patch that is labelled by the model's rule and scored
-- units     x, y, span_x, span_y: level-0 pixels; label: 1 tumor, 0 normal;
--           called: 1 where the probability reaches the model's threshold, else 0
-- params    $slide_id, $patch_set, $model_id

select
    s.x,
    s.y,
    p.span_x,
    p.span_y,
    s.label,
    (s.probability >= s.threshold)::integer as called
from scored_patches as s
inner join slide_patches as p
    on s.bucket = p.bucket and s.slide_id = p.slide_id and s.patch_set = p.patch_set and s.x = p.x and s.y = p.y
where
    s.bucket = bucket_of($slide_id)
    and s.slide_id = $slide_id
    and s.patch_set = $patch_set
    and s.model_id = $model_id
order by s.y, s.x
