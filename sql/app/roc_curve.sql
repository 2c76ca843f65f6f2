-- roc_curve: how a model's sensitivity grows with its false alarms, on labelled patches.
--
-- Thresholds whose points lie within 1 / $points of each other are one point.
--
-- grain     one row per split and threshold
-- units     position: of the threshold, from the highest; threshold: probability, 0 to 1, NULL above all of them;
--           false_positive_rate, sensitivity: 0 to 1
-- params    $model_id
--           $points     how fine the curve is, along either axis

with

rates as (

    select
        split,
        position,
        thresholds,
        threshold,
        false_positives / negatives as false_positive_rate,
        true_positives / positives as sensitivity
    from threshold_counts
    where model_id = $model_id and positives > 0 and negatives > 0

),

kept as (

    select split, position, threshold, false_positive_rate, sensitivity
    from rates
    qualify
        position = thresholds
        or row_number() over (
            partition by split, floor(false_positive_rate * $points), floor(sensitivity * $points)
            order by position
        ) = 1

    union all

    select distinct split, 0 as position, null as threshold, 0 as false_positive_rate, 0 as sensitivity
    from rates

)

select split, position, threshold, false_positive_rate, sensitivity
from kept
order by split, position
