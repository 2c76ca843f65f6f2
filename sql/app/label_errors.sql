-- label_errors: patches whose label the model confidently contradicts, the most doubtful label first.
--
-- Confident learning: a model is confident that a patch is of a class when its probability of that class reaches the
-- mean of it over the patches that are labelled so; of two such classes the likelier counts. Means are taken within a
-- split, as a model is surer of slides that it was trained on; over all splits where one lacks the class. Patches
-- that were reviewed are left out.
--
-- Source: Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, 2021.
--
-- grain     one row per patch
-- units     position: in all, position_on_slide: on its slide, from 1; label_probability: that the model gives to the
--           label, 0 to 1; x, y, span_x, span_y: level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel
-- params    $model_id, $patch_set   whose predictions, where
--           $slides                 patterns of slide_id to keep to; empty for all
--           $patches                how many at most

with

scored as (

    select *
    from scored_patches
    where model_id = $model_id and patch_set = $patch_set

),

sure as (  -- from which probability of a class on the model is confident of it

    select
        split,
        avg(probability) filter (label = 1) as of_tumor,
        avg(1 - probability) filter (label = 0) as of_normal
    from scored
    group by grouping sets ((split), ())

),

judged as (

    select
        s.*,
        case when s.label = 1 then s.probability else 1 - s.probability end as label_probability,
        s.probability >= coalesce(t.of_tumor, o.of_tumor) as may_be_tumor,
        1 - s.probability >= coalesce(t.of_normal, o.of_normal) as may_be_normal
    from scored as s
    inner join sure as t on s.split = t.split
    inner join sure as o on o.split is null

),

doubtful as (

    select *
    from judged
    where
        case label
            when 0 then may_be_tumor and (not may_be_normal or probability > 0.5)
            else may_be_normal and (not may_be_tumor or probability < 0.5)
        end

),

open as (

    select d.*
    from doubtful as d
    anti join reviewed_labels as r
        on d.slide_id = r.slide_id and d.patch_set = r.patch_set and d.x = r.x and d.y = r.y
    where len($slides) = 0 or len(list_filter($slides, lambda pattern: d.slide_id glob pattern)) > 0

),

ranked as (

    select
        *,
        row_number() over (order by label_probability, slide_id, y, x) as position,
        row_number() over (partition by slide_id order by label_probability, y, x) as position_on_slide
    from open

)

select
    r.position,
    r.position_on_slide,
    r.slide_id,
    r.split,
    r.x,
    r.y,
    r.label,
    r.probability,
    r.label_probability,
    p.span_x,
    p.span_y,
    p.path,
    p.mpp_x,
    p.mpp_y,
    r.patch_set
from ranked as r
inner join slide_patches as p
    on r.bucket = p.bucket and r.slide_id = p.slide_id and r.patch_set = p.patch_set and r.x = p.x and r.y = p.y
where r.position <= $patches
order by r.position
