-- annotations_mean_what_their_groups_do: every shape has the label that annotation_groups gives its group.

select a.slide_id, a.source, a.annotation_id, a.group_name, a.label, a.is_exclusion
from annotations as a
inner join annotation_groups as g on lower(a.group_name) = g.group_name
where coalesce(a.label, -1) <> coalesce(g.label, -1) or a.is_exclusion <> g.is_exclusion
order by all
