-- annotation_rivals: two annotation files that have one name and speak of one slide.
--
-- grain     one row per slide, name and pair of paths

select f.source, f.path, g.path as other_path
from annotation_files as f
inner join annotation_files as g on f.slide_id = g.slide_id and f.source = g.source and f.path < g.path
order by all
