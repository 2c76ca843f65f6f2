-- tumor_shapes: the shapes that a slide's area of tumor is made of, and those that are cut out of it.
--
-- grain   one row per shape
-- units   geometry: WKB, level-0 pixels

select slide_id, geometry, is_exclusion
from annotations
where
    (label = 1 or is_exclusion)
    and format <> 'ncrf_csv'
