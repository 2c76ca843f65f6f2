-- annotation_groups_have_a_meaning: groups that the table annotation_groups does not know; they label nothing.
--
-- notice

select group_name, count(*) as annotations, count(distinct slide_id) as slides
from annotations
where group_name is not null and label is null and not is_exclusion
group by group_name
order by group_name
