-- training_slides: the slides that a model is trained on and chosen with, for cutting the training set into shards.
--
-- A selection, not a stage: `histolake train --engine ray` reads it.
--
-- grain     one row per slide; patches: rows that it has in training_set
-- params    $patch_set, $encoder_id, $label_rule   which labels meet which features
--           $protocol, $with_reviews               which side a patch stands on, and whose word counts: as in
--                                                  training_set

select
    slide_id,
    count(*) as patches
from training_patches
where
    patch_set = $patch_set
    and encoder_id = $encoder_id
    and (label_rule = $label_rule or label_rule is null)
    and protocol = $protocol
    and with_reviews = $with_reviews
group by slide_id
order by slide_id
