-- slide_names: the slides that there are to look at.
--
-- grain     one row per slide

select slide_id
from slides
order by slide_id
