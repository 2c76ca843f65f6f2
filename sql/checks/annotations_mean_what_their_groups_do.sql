-- annotations_mean_what_their_groups_do: every shape has the label that annotation_groups gives its group.

select a.slide_id, a.source, a.annotation_id, a.group_name, a.label, a.is_exclusion
from annotations as a
inner join annotation_groups as g on lower(a.group_name) = g.group_name
where a.label is distinct from g.label or a.is_exclusion <> g.is_exclusion
order by all
