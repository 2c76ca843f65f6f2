-- annotated_groups: what was drawn on the slides, and what it means.
--
-- grain   one row per format, group and meaning

select
    format,
    group_name,
    meaning_of(label, is_exclusion) as meaning,
    count(*) as shapes,
    count(distinct slide_id) as slides
from annotations
group by all
order by shapes desc, format, group_name, meaning
