-- annotation_groups_have_a_meaning: groups that the table annotation_groups does not know; they label nothing.
--
-- notice

select a.group_name, count(*) as annotations, count(distinct a.slide_id) as slides
from annotations as a
anti join annotation_groups as g on lower(a.group_name) = g.group_name
where a.group_name is not null
group by a.group_name
order by a.group_name
