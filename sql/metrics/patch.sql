-- patch: how well the probabilities of patches agree with their labels, per split.
--
-- Every number has its usual definition; ties of probability count half in the AUC (Mann-Whitney) and
-- are one threshold in the average precision. The expected calibration error (ece) is the mean, over the patches,
-- of how far the tumor fraction of a patch's tenth of the probabilities lies from the mean probability there. Counts
-- and rates are at the model's own threshold. A number that a split has no answer to is NULL. Sums of many threads
-- differ in their last bits: twelve digits are kept, so that the same tables give the same numbers.
--
-- Sources: Brier, Verification of forecasts expressed in terms of probability, 1950; Naeini et al., Obtaining well
-- calibrated probabilities using Bayesian binning, 2015 (ece, of equal-width bins).
--
-- grain     one row per split and name
-- params    $model_id, $patch_set   whose predictions, where

with

scored as (

    select split, label, probability, threshold
    from scored_patches
    where model_id = $model_id and patch_set = $patch_set

),

counted as (

    select
        split,
        count(*) as patches,
        count(*) filter (label = 1 and probability >= threshold) as tp,
        count(*) filter (label = 0 and probability >= threshold) as fp,
        count(*) filter (label = 0 and probability < threshold) as tn,
        count(*) filter (label = 1 and probability < threshold) as fn,
        avg((probability - label) ** 2) as brier
    from scored
    group by split

),

tenths as (

    select split, abs(sum(label - probability)) as gap, count(*) as patches
    from scored
    group by split, least(floor(probability * 10), 9)

),

calibrated as (

    select split, sum(gap) / sum(patches) as ece
    from tenths
    group by split

),

thresholds as (  -- every probability that occurs, highest first

    select
        split,
        probability,
        sum(label) as positives,
        count(*) - sum(label) as negatives
    from scored
    group by split, probability

),

cumulated as (

    select
        split,
        positives,
        negatives,
        sum(positives) over (partition by split order by probability desc) as found,
        sum(positives + negatives) over (partition by split order by probability desc) as called,
        sum(negatives) over (partition by split order by probability) - negatives as below
    from thresholds

),

ranked as (

    select
        split,
        sum(positives * (below + negatives / 2)) / nullif(sum(positives) * sum(negatives), 0) as auc,
        sum(positives * found / called) / nullif(sum(positives), 0) as average_precision
    from cumulated
    group by split

),

wide as (

    select
        c.split,
        c.patches::double as patches,
        c.tp::double as tp,
        c.fp::double as fp,
        c.tn::double as tn,
        c.fn::double as fn,
        (c.tp + c.tn) / c.patches as accuracy,
        (c.tp / nullif(c.tp + c.fn, 0) + c.tn / nullif(c.tn + c.fp, 0)) / 2 as balanced_accuracy,
        c.tp / nullif(c.tp + c.fn, 0) as sensitivity,
        c.tn / nullif(c.tn + c.fp, 0) as specificity,
        2 * c.tp / nullif(2 * c.tp + c.fp + c.fn, 0) as f1,
        r.auc::double as auc,
        r.average_precision::double as average_precision,
        c.brier,
        e.ece
    from counted as c
    inner join ranked as r on c.split = r.split
    inner join calibrated as e on c.split = e.split

)

select split, name, round(value, 12) as value
from wide unpivot include nulls (value for name in (columns(* exclude split))) as long
order by split, name
