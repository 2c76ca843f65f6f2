-- annotations_have_slides: annotations of slides that are not in the lake; they wait for them.
--
-- notice

select a.slide_id, a.source, count(*) as annotations
from annotations as a
anti join slides as s on a.slide_id = s.slide_id
group by all
order by all
