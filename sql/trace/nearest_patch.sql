-- nearest_patch: the patch whose centre is nearest to a place on a slide, wherever the place is.
--
-- grain     one row, or none where the slide has no patch
-- units     x, y: level-0 pixels
-- params    $slide_id, $x, $y   the place, level-0 pixels
--           $patch_set          only this tiling; NULL: any

select patch_set, x, y
from slide_patches
where
    bucket = bucket_of($slide_id)
    and slide_id = $slide_id
    and ($patch_set is null or patch_set = $patch_set)
order by (x + span_x / 2 - $x) ** 2 + (y + span_y / 2 - $y) ** 2, patch_set, y, x
limit 1
