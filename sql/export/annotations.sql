-- annotations: every shape of the slides asked for, as the lake has it.
--
-- grain     one row per shape
-- units     geometry: WKB, level-0 pixels
-- params    $slides   patterns of slide_id to keep to, e.g. 'tumor_*'; empty for all

select slide_id, source, annotation_id, group_name, label, is_exclusion, geometry, note
from annotations
where len($slides) = 0 or len(list_filter($slides, lambda pattern: slide_id glob pattern)) > 0
order by slide_id, source, annotation_id
