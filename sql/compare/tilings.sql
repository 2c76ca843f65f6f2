-- tilings: where two models can be compared: the tilings on which both have scored patches, the best first.
--
-- grain     one row per patch set
-- params    $model_a, $model_b

with

common as (

    select patch_set, count(*) as patches
    from paired_predictions
    where model_a = $model_a and model_b = $model_b
    group by patch_set

)

select c.patch_set, c.patches
from common as c
order by
    c.patch_set in (select m.patch_set from models as m where m.model_id in ($model_a, $model_b)) desc,
    c.patches desc,
    c.patch_set
