-- slide_tilings: every usable slide beside every tiling, with a fingerprint of all that its patches follow from.
--
-- grain   one row per slide and patch set
-- units   lengths: level-0 pixels; mpp, mpp_x, mpp_y: microns per pixel

select
    s.slide_id,
    t.patch_set,
    s.path,
    s.width,
    s.height,
    s.mpp_x,
    s.mpp_y,
    s.patient_id,
    s.split,
    s.label as slide_label,
    coalesce(s.bounds_x, 0) as left_edge,
    coalesce(s.bounds_y, 0) as top_edge,
    coalesce(s.bounds_x + s.bounds_width, s.width) as right_edge,
    coalesce(s.bounds_y + s.bounds_height, s.height) as bottom_edge,
    t.tiling,
    t.patch_px,
    t.mpp,
    t.stride_px,
    t.min_tissue,
    t.tissue_od,
    t.allow_upsampling,
    t.region_x,
    t.region_y,
    t.region_width,
    t.region_height,
    case t.tiling
        when 'centres' then md5(s.fingerprint || coalesce(a.annotation_hash, ''))
        else s.fingerprint
    end as fingerprint
from slides as s
cross join patch_sets as t
left join annotated_slides as a on s.slide_id = a.slide_id and a.kind = 'point'
where s.status = 'ok'
