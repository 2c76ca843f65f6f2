-- slides_are_usable: slides that cannot be opened, read or measured, and the remedy.
--
-- notice

select slide_id, error
from slides
where status <> 'ok'
order by slide_id
