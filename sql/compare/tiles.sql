-- tiles: how the probability of one slide's patches changed from one model to another, and where they are.
--
-- grain     one row per patch
-- units     x, y, span_x, span_y: level-0 pixels; difference: second model less first, -1 to 1
-- params    $slide_id, $patch_set, $model_a, $model_b

select x, y, span_x, span_y, probability_b - probability_a as difference
from paired_predictions
where
    bucket = bucket_of($slide_id)
    and slide_id = $slide_id
    and patch_set = $patch_set
    and model_a = $model_a
    and model_b = $model_b
order by y, x
