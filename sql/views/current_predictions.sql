-- current_predictions: what the champion says of every patch of the slides as they are now.
--
-- grain   one row per patch
-- units   probability of tumor, 0 to 1; x, y, span_x, span_y: level-0 pixels

select
    slide_id,
    patch_set,
    model_id,
    x,
    y,
    span_x,
    span_y,
    probability,
    tissue,
    split,
    path,
    bucket
from slide_predictions
where model_id = (select s.value from settings as s where s.name = 'champion')
