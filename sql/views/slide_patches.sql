-- slide_patches: the patches that are up to date, with what is needed to read their pixels.
--
-- grain   one row per patch
-- units   x, y, span_x, span_y: level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel

select
    p.slide_id,
    p.patch_set,
    p.part,
    p.x,
    p.y,
    p.span_x,
    p.span_y,
    p.mpp,
    p.tissue,
    p.fingerprint,
    p.bucket,
    t.path,
    t.mpp_x,
    t.mpp_y,
    t.patch_px,
    t.split,
    t.patient_id,
    t.slide_label
from patches as p
inner join slide_tilings as t
    on p.slide_id = t.slide_id and p.patch_set = t.patch_set and p.fingerprint = t.fingerprint
