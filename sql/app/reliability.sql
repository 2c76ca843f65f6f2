-- reliability: whether patches with a probability of 0.7 are tumor seven times in ten.
--
-- grain     one row per split and tenth of the probabilities that has a labelled patch
-- units     mean_probability, tumor_fraction: 0 to 1

with

scored as (

    select p.split, p.probability, l.label
    from current_predictions as p
    inner join models as m on p.model_id = m.model_id and p.patch_set = m.patch_set
    inner join current_labels as l
        on
            p.bucket = l.bucket
            and p.slide_id = l.slide_id
            and p.patch_set = l.patch_set
            and p.x = l.x
            and p.y = l.y
            and m.label_rule = l.label_rule

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
