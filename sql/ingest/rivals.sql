-- rivals: two files that claim one slide_id: both given now, or one of them in the lake already.
--
-- grain     one row per slide_id and pair of paths

select f.slide_id, f.path, g.path as other_path
from slide_files as f
inner join slide_files as g on f.slide_id = g.slide_id and f.path < g.path

union all

select f.slide_id, f.path, s.path as other_path
from slide_files as f
inner join slides as s on f.slide_id = s.slide_id and f.path <> s.path

order by all
