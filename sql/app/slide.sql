-- slide: what is known of one slide, and the area of it that was scanned.
--
-- grain     one row, or none where the lake has no such slide
-- units     left_edge, top_edge, width, height: level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel
-- params    $slide_id

select
    slide_id,
    path,
    status,
    error,
    mpp_x,
    mpp_y,
    coalesce(bounds_x, 0) as left_edge,
    coalesce(bounds_y, 0) as top_edge,
    coalesce(bounds_width, width) as width,
    coalesce(bounds_height, height) as height
from slides
where slide_id = $slide_id
