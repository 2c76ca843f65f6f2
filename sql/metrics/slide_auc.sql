-- slide_auc: Camelyon16's slide task: how well each way of scoring slides tells tumor from normal, per split.
--
-- auc_NAME is the area under the ROC curve over slides of known state: the chance that a tumor slide scores higher than
-- a normal one, ties counting half (Mann-Whitney); NULL where a split has slides of one kind only.
--
-- grain     one row per split and name
-- params    $model_id, $patch_set   whose scores, on which tiling

with

scored as (

    select split, name, is_tumor, score
    from scored_slides
    where model_id = $model_id and patch_set = $patch_set

),

scores as (  -- every one that occurs

    select
        split,
        name,
        score,
        count(*) filter (is_tumor) as tumor,
        count(*) filter (not is_tumor) as normal
    from scored
    group by split, name, score

),

cumulated as (

    select
        *,
        sum(normal) over (partition by split, name order by score) - normal as below
    from scores

),

ranked as (

    select
        split,
        name,
        sum(tumor) as tumor,
        sum(normal) as normal,
        sum(tumor * (below + normal / 2)) / nullif(sum(tumor) * sum(normal), 0) as auc
    from cumulated
    group by split, name

),

long as (

    select split, 'auc_' || name as name, auc::double as value
    from ranked

    union all

    select split, 'tumor_slides' as name, max(tumor)::double as value
    from ranked
    group by split

    union all

    select split, 'normal_slides' as name, max(normal)::double as value
    from ranked
    group by split

)

select split, name, round(value, 12) as value
from long
order by split, name
