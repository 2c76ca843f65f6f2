-- protocols: the patch metrics of a model that held slides out, beside those of the newest one like it that did not.
--
-- Like it: of the same encoder, tiling, label rule and head. The other was trained by the protocol 'patch_random', on
-- patches of every slide; by how much its numbers are better is what leakage flatters.
--
-- grain     one row per split and name; none while there is no such model with metrics
-- units     difference: patch_random less by_slide; is_comparable: whether both were measured on the same tables
-- params    $model_id   the model of the protocol 'by_slide'

with

measured as (

    select t.*, m.head, m.label_rule, m.trained_at
    from metrics as t
    inner join models as m on t.model_id = m.model_id and t.patch_set = m.patch_set and t.protocol = m.protocol
    where t.scope = 'patch'

),

held_out as (

    select * from measured
    where model_id = $model_id and protocol = 'by_slide'

),

newest as (

    select r.model_id
    from measured as r
    semi join held_out as h
        on
            r.encoder_id = h.encoder_id
            and r.patch_set = h.patch_set
            and r.label_rule = h.label_rule
            and r.head = h.head
    where r.protocol = 'patch_random'
    order by r.trained_at desc, r.model_id
    limit 1

)

select
    h.split,
    h.name,
    h.value as by_slide,
    h.low as by_slide_low,
    h.high as by_slide_high,
    r.value as patch_random,
    r.low as patch_random_low,
    r.high as patch_random_high,
    r.value - h.value as difference,
    r.model_id as patch_random_model_id,
    r.table_versions = h.table_versions as is_comparable
from held_out as h
inner join measured as r on h.split = r.split and h.name = r.name
semi join newest as n on r.model_id = n.model_id
order by h.split, h.name
