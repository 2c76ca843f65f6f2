-- training_set: the labelled, readable patches of the training and validation slides.
--
-- A selection, not a stage: `histolake train` reads it.
--
-- grain     one row per patch
-- params    $patch_set, $encoder_id, $label_rule   which labels meet which features

select
    f.slide_id,
    f.x,
    f.y,
    f.split,
    l.label,
    f.embedding
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
order by f.slide_id, f.y, f.x
