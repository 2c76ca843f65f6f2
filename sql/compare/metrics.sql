-- metrics: the stored numbers of two models side by side, and by how much the second is higher.
--
-- grain     one row per patch set, protocol, split, scope and name that either has
-- units     as in the table metrics; is_same_lake: whether both were measured on the same slides, patches and labels
-- params    $model_a, $model_b
--           $split               only this; NULL: all

with

measured as (

    select
        *,
        list_transform(
            ['slides', 'annotations', 'patches', 'labels'],
            lambda name: table_versions ->> name
        ) as measured_on
    from metrics
    where $split is null or split = $split

),

a as (

    select * from measured
    where model_id = $model_a

),

b as (

    select * from measured
    where model_id = $model_b

)

select
    coalesce(a.patch_set, b.patch_set) as patch_set,
    coalesce(a.protocol, b.protocol) as protocol,
    coalesce(a.split, b.split) as split,
    coalesce(a.scope, b.scope) as scope,
    coalesce(a.name, b.name) as name,
    a.value as value_a,
    a.low as low_a,
    a.high as high_a,
    b.value as value_b,
    b.low as low_b,
    b.high as high_b,
    b.value - a.value as difference,
    a.measured_on = b.measured_on as is_same_lake
from a
full join b
    on
        a.patch_set = b.patch_set
        and a.protocol = b.protocol
        and a.split = b.split
        and a.scope = b.scope
        and a.name = b.name
order by patch_set, protocol, split, scope, name
