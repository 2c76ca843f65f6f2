-- repeated: slides that several rows of the manifest tell of, by slide_id or by path.
--
-- Either would make one slide two, perhaps one to train on and one to test with.
--
-- grain     one row per slide

select slide_id
from slide_files
qualify count(*) over (partition by path) > 1 or count(*) over (partition by slide_id) > 1
order by slide_id
