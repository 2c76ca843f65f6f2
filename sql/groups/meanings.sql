-- meanings: what each group of annotations means, and how often it occurs; NULL where nobody has said.
--
-- grain   one row per group name, lower case

with

used as (

    select lower(group_name) as group_name, count(*) as annotations, count(distinct slide_id) as slides
    from annotations
    where group_name is not null
    group by all

)

select
    coalesce(g.group_name, u.group_name) as group_name,
    if(g.group_name is not null, meaning_of(g.label, g.is_exclusion), null) as meaning,
    coalesce(u.annotations, 0) as annotations,
    coalesce(u.slides, 0) as slides
from annotation_groups as g
full join used as u on g.group_name = u.group_name
order by group_name
