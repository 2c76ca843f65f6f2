-- roc_curve: how the champion's sensitivity grows with its false alarms, on labelled patches.
--
-- Ties of probability are one threshold. Of more than $points thresholds every so many are kept, and the last.
--
-- grain     one row per split and threshold
-- units     position: of the threshold, from the highest; threshold: probability, 0 to 1, NULL above all of them;
--           false_positive_rate, sensitivity: 0 to 1
-- params    $points   how many thresholds of a split, about

with

scored as (  -- the champion's, on the tiling that it was trained on

    select s.split, s.probability, s.label
    from scored_patches as s
    inner join models as m on s.model_id = m.model_id and s.patch_set = m.patch_set
    where s.model_id = (select c.value from settings as c where c.name = 'champion')

),

thresholds as (

    select split, probability as threshold, sum(label) as positives, sum(1 - label) as negatives
    from scored
    group by split, probability

),

cumulated as (

    select
        split,
        threshold,
        sum(positives) over from_the_top / nullif(sum(positives) over whole, 0) as sensitivity,
        sum(negatives) over from_the_top / nullif(sum(negatives) over whole, 0) as false_positive_rate,
        row_number() over from_the_top as position,
        count(*) over whole as total
    from thresholds
    window
        whole as (partition by split),
        from_the_top as (partition by split order by threshold desc)

),

kept as (

    select split, position, threshold, false_positive_rate, sensitivity
    from cumulated
    where position % greatest(1, total // $points) = 0 or position = total

    union all

    select distinct split, 0 as position, null as threshold, 0 as false_positive_rate, 0 as sensitivity
    from cumulated

)

select split, position, threshold, false_positive_rate, sensitivity
from kept
where sensitivity is not null and false_positive_rate is not null
order by split, position
