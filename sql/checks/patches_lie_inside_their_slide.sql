-- patches_lie_inside_their_slide: every patch lies inside its slide, to half a pixel.

select slide_id, patch_set, x, y, span_x, span_y, width, height
from slide_patches
inner join slides using (slide_id)
where
    x < 0
    or y < 0
    or x + span_x > width + 0.5
    or y + span_y > height + 0.5
order by slide_id, patch_set, y, x
