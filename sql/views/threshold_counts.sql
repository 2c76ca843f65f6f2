-- threshold_counts: how many labelled patches every model calls tumor at each threshold, rightly and wrongly.
--
-- Ties of probability are one threshold. Patches are those of the tiling that the model was trained on.
--
-- grain   one row per model, split and distinct probability
-- units   threshold: probability, 0 to 1; position: of the threshold, from the highest; thresholds: of the split;
--         true_positives, false_positives: patches at or above it; positives, negatives: patches of the split

with

thresholds as (

    select
        s.model_id,
        s.split,
        s.probability as threshold,
        sum(s.label)::bigint as positives,
        sum(1 - s.label)::bigint as negatives
    from scored_patches as s
    inner join models as m on s.model_id = m.model_id and s.patch_set = m.patch_set
    group by s.model_id, s.split, s.probability

)

select
    model_id,
    split,
    threshold,
    row_number() over from_the_top as position,
    count(*) over whole as thresholds,
    sum(positives) over from_the_top as true_positives,
    sum(negatives) over from_the_top as false_positives,
    sum(positives) over whole as positives,
    sum(negatives) over whole as negatives
from thresholds
window
    whole as (partition by model_id, split),
    from_the_top as (partition by model_id, split order by threshold desc)
