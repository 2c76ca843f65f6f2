-- training_counts: how many slides and patches a model was trained on and chosen with, per split.
--
-- Asked of the lake as it was then: see `at=` of lake.connect().
--
-- grain     one row per split
-- params    $patch_set, $encoder_id, $label_rule   as for training_set

select
    f.split,
    count(distinct f.slide_id) as slides,
    count(*) as patches,
    sum(l.label)::bigint as tumor_patches
from slide_features as f
inner join current_labels as l
    on
        f.bucket = l.bucket
        and f.slide_id = l.slide_id
        and f.patch_set = l.patch_set
        and f.x = l.x
        and f.y = l.y
where
    f.patch_set = $patch_set
    and f.encoder_id = $encoder_id
    and l.label_rule = $label_rule
    and f.embedding is not null
    and f.split in ('train', 'validation')
group by f.split
order by f.split
