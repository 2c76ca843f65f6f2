-- training_counts: how many slides and patches a model was trained on and chosen with, per split.
--
-- Asked of the lake as it was then: see `at=` of lake.connect().
--
-- grain     one row per split
-- params    $patch_set, $encoder_id, $label_rule, $protocol, $with_reviews   as for training_set

select
    split,
    count(distinct slide_id) as slides,
    count(*) as patches,
    sum(label)::bigint as tumor_patches
from training_patches
where
    patch_set = $patch_set
    and encoder_id = $encoder_id
    and (label_rule = $label_rule or label_rule is null)
    and protocol = $protocol
    and with_reviews = $with_reviews
group by split
order by split
