-- training_set: the patches that a model is trained on and chosen with.
--
-- A selection, not a stage: `histolake train` reads it. Patches of one split, and of one slide, follow each other.
--
-- grain     one row per patch; position: its row in the training set, from 0
-- params    $patch_set, $encoder_id, $label_rule   which labels meet which features
--           $protocol, $with_reviews               which side a patch stands on, and whose word counts: see the
--                                                  view training_patches
--           $first, $last                          the first and the last slide of a shard; NULL for all slides

select
    slide_id,
    x,
    y,
    split,
    label,
    row_number() over (order by split, slide_id, y, x) - 1 as position
from training_patches
where
    patch_set = $patch_set
    and encoder_id = $encoder_id
    and (label_rule = $label_rule or label_rule is null)
    and protocol = $protocol
    and with_reviews = $with_reviews
    and ($first is null or slide_id between $first and $last)
order by position
