-- reliability: whether patches to which a model gives a probability of 0.7 are tumor seven times in ten.
--
-- grain     one row per split and tenth of the probabilities that has a labelled patch
-- units     mean_probability, tumor_fraction: 0 to 1
-- params    $model_id

with

scored as (  -- on the tiling that the model was trained on

    select s.split, s.probability, s.label
    from scored_patches as s
    inner join models as m on s.model_id = m.model_id and s.patch_set = m.patch_set
    where s.model_id = $model_id

)

select
    split,
    least(floor(probability * 10), 9)::integer as tenth,
    count(*) as patches,
    avg(probability) as mean_probability,
    avg(label) as tumor_fraction
from scored
group by split, tenth
order by split, tenth
