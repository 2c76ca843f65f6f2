-- precision_recall: how much of what a model calls tumor is tumor, and how much of the tumor it calls so.
--
-- Of labelled patches. Thresholds whose points lie within 1 / $points of each other are one point.
--
-- grain     one row per split and threshold
-- units     position: of the threshold, from the highest; threshold: probability, 0 to 1; recall, precision: 0 to 1;
--           prevalence: fraction of the split's patches that is tumor, the precision of chance
-- params    $model_id
--           $points     how fine the curve is, along either axis

with

rates as (

    select
        split,
        position,
        thresholds,
        threshold,
        true_positives / positives as recall,
        true_positives / (true_positives + false_positives) as precision,
        positives / (positives + negatives) as prevalence
    from threshold_counts
    where model_id = $model_id and positives > 0

)

select split, position, threshold, recall, precision, prevalence
from rates
qualify
    position = thresholds
    or row_number() over (
        partition by split, floor(recall * $points), floor(precision * $points)
        order by position
    ) = 1
order by split, position
