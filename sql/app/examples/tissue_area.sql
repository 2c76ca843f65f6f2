-- tissue_area: the tissue of every slide, by tiling.
--
-- grain   one row per slide and tiling
-- units   tissue_mm2: square millimetres; overlapping patches count twice

select
    slide_id,
    patch_set,
    count(*) as patches,
    round(sum(tissue * span_x * mpp_x * span_y * mpp_y) / 1e6, 3) as tissue_mm2
from slide_patches
group by slide_id, patch_set
order by tissue_mm2 desc, slide_id, patch_set
