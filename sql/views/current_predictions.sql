-- current_predictions: what the champion says of every patch of the slides as they are now.
--
-- grain   one row per patch
-- units   probability of tumor, 0 to 1; x, y, span_x, span_y: level-0 pixels

select
    p.slide_id,
    p.patch_set,
    p.model_id,
    p.x,
    p.y,
    t.span_x,
    t.span_y,
    p.probability,
    t.tissue,
    t.split,
    t.path,
    p.bucket
from predictions as p
inner join slide_patches as t
    on
        p.bucket = t.bucket
        and p.slide_id = t.slide_id
        and p.patch_set = t.patch_set
        and p.x = t.x
        and p.y = t.y
        and p.fingerprint = t.fingerprint
where p.model_id = (select s.value from settings as s where s.name = 'champion')
