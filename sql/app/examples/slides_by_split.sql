-- slides_by_split: how many slides stand on each side of the split, by label.
--
-- grain   one row per split and label

select split, label, count(*) as slides, count(*) filter (where status = 'failed') as failed
from slides
group by split, label
order by split, label
