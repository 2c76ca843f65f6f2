-- scans: where the file of every slide lies, and the area of it that was scanned.
--
-- grain     one row per slide; width and height are NULL where the file could not be opened
-- units     left_edge, top_edge, width, height: level-0 pixels

select
    slide_id,
    path,
    fingerprint,
    coalesce(bounds_x, 0) as left_edge,
    coalesce(bounds_y, 0) as top_edge,
    coalesce(bounds_width, width) as width,
    coalesce(bounds_height, height) as height,
    error
from slides
order by slide_id
