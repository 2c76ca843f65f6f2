-- slide_predictions: what every model says of the patches of the slides as they are now.
--
-- grain   one row per patch and model
-- units   probability of tumor, 0 to 1; x, y, span_x, span_y: level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel

select
    p.slide_id,
    p.patch_set,
    p.model_id,
    p.x,
    p.y,
    t.span_x,
    t.span_y,
    t.mpp_x,
    t.mpp_y,
    p.probability,
    t.tissue,
    t.split,
    t.path,
    p.fingerprint,
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
