-- labelled: the labelled patches that two models have scored, for statistics of pairs.
--
-- grain     one row per patch
-- params    $model_a, $model_b, $patch_set
--           $split               only this; NULL: all
--           $slides              patterns of slide_id to keep to; empty for all

select
    split,
    slide_id,
    label,
    probability_a,
    probability_b,
    threshold_a,
    threshold_b
from paired_predictions
where
    model_a = $model_a
    and model_b = $model_b
    and patch_set = $patch_set
    and label is not null
    and ($split is null or split = $split)
    and (len($slides) = 0 or len(list_filter($slides, lambda pattern: slide_id glob pattern)) > 0)
order by split, slide_id, y, x
