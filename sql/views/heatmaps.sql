-- heatmaps: every model's probabilities at the centres of patches, with a fingerprint of the whole heatmap.
--
-- The fingerprint changes with the slide, and when parts of the slide were scored later.
--
-- grain   one row per patch and model
-- units   x, y: centre of the patch, level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel; probability: 0 to 1

with

sizes as (

    select bucket, slide_id, patch_set, model_id, fingerprint, count(*) as patches
    from slide_predictions
    group by all

)

select
    p.slide_id,
    p.patch_set,
    p.model_id,
    p.x + p.span_x / 2 as x,
    p.y + p.span_y / 2 as y,
    p.mpp_x,
    p.mpp_y,
    p.probability,
    md5(p.fingerprint || ':' || s.patches) as fingerprint,
    p.bucket
from slide_predictions as p
inner join sizes as s
    on
        p.bucket = s.bucket
        and p.slide_id = s.slide_id
        and p.patch_set = s.patch_set
        and p.model_id = s.model_id
