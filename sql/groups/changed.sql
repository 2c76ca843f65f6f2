-- changed: the annotations of a group with another meaning; none where all of them have it already.
--
-- grain   one row per annotation
-- params  $group_name     the group, lower case
--         $label          1 tumor, 0 normal, NULL for neither
--         $is_exclusion   whether the area is cut out of the tumor

select a.* replace ($label::integer as label, $is_exclusion::boolean as is_exclusion)
from annotations as a
where lower(a.group_name) = $group_name
qualify bool_or(a.label is distinct from $label::integer or a.is_exclusion <> $is_exclusion::boolean) over ()
order by a.slide_id, a.source, a.annotation_id
