-- slides: what changed on every slide from one model to another, the most changed first.
--
-- A patch flips when only one of the models calls it tumor, each at its own threshold. A slide is called tumor when
-- the mean of its ten highest probabilities reaches that threshold.
--
-- grain     one row per slide
-- units     mean_difference, largest_difference: probability of the second model less that of the first, -1 to 1, the
--           largest of either sign; score_a, score_b: mean of the ten highest, 0 to 1
-- params    $model_a, $model_b, $patch_set
--           $split               only slides of this split; NULL: all
--           $slides              patterns of slide_id to keep to; empty for all

with

patches as (

    select *, probability_a >= threshold_a as is_tumor_a, probability_b >= threshold_b as is_tumor_b
    from paired_predictions
    where
        model_a = $model_a
        and model_b = $model_b
        and patch_set = $patch_set
        and ($split is null or split = $split)
        and (len($slides) = 0 or len(list_filter($slides, lambda pattern: slide_id glob pattern)) > 0)

),

compared as (

    select
        slide_id,
        split,
        count(*) as patches,
        count(*) filter (is_tumor_b and not is_tumor_a) as to_tumor,
        count(*) filter (is_tumor_a and not is_tumor_b) as to_normal,
        avg(probability_b - probability_a) as mean_difference,
        arg_max(probability_b - probability_a, abs(probability_b - probability_a)) as largest_difference,
        list_avg(max(probability_a, 10)) as score_a,
        list_avg(max(probability_b, 10)) as score_b,
        any_value(threshold_a) as threshold_a,
        any_value(threshold_b) as threshold_b
    from patches
    group by slide_id, split

),

called as (

    select
        c.*,
        s.label,
        c.score_a >= c.threshold_a as is_tumor_a,
        c.score_b >= c.threshold_b as is_tumor_b
    from compared as c
    inner join slides as s on c.slide_id = s.slide_id

)

select
    slide_id,
    split,
    label,
    patches,
    to_tumor,
    to_normal,
    mean_difference,
    largest_difference,
    score_a,
    score_b,
    if(is_tumor_a, 'tumor', 'normal') as call_a,
    if(is_tumor_b, 'tumor', 'normal') as call_b,
    is_tumor_a <> is_tumor_b as is_flipped
from called
order by is_flipped desc, to_tumor + to_normal desc, abs(mean_difference) desc, slide_id
