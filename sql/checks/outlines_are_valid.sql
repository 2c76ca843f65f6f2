-- outlines_are_valid: outlines that had to be repaired or ignored.
--
-- notice

select slide_id, source, annotation_id, note
from annotations
where note is not null
order by all
