-- labels: the labels that hold on some slides.
--
-- grain   one row per patch and label_rule
-- params  $slides   their slide_ids

select slide_id, patch_set, label_rule, x, y, label
from current_labels
where list_contains($slides, slide_id)
order by all
