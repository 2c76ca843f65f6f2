-- outlines: the annotations of one slide, and what they mean.
--
-- grain     one row per shape
-- units     geometry: WKB, level-0 pixels; meaning: 'tumor', 'normal', 'exclusion' or 'none'
-- params    $slide_id

select annotation_id, group_name, meaning_of(label, is_exclusion) as meaning, geometry
from annotations
where slide_id = $slide_id
order by source, annotation_id
