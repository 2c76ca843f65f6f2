-- metrics: by how much each metric moved, from the newest model of the older annotations to the newest of the later.
--
-- The two models agree in all but what they learned from: encoder, tiling, rule, protocol and kind of classifier.
--
-- grain   one row per metric
-- params  $from_version, $to_version   versions of the table annotations

with

trained as (

    select *, (table_versions ->> 'annotations')::bigint as annotations_version
    from models

),

later as (

    select *
    from trained
    where annotations_version > $from_version and annotations_version <= $to_version
    order by trained_at desc
    limit 1

),

older as (

    select t.*
    from trained as t
    inner join later as l
        on
            t.encoder_id = l.encoder_id
            and t.patch_set = l.patch_set
            and t.label_rule = l.label_rule
            and t.protocol is not distinct from l.protocol
            and t.head is not distinct from l.head
    where t.annotations_version <= $from_version
    order by t.trained_at desc
    limit 1

)

select
    o.model_id as model_before,
    l.model_id as model_after,
    a.patch_set,
    a.protocol,
    a.split,
    a.scope,
    a.name,
    b.value as value_before,
    a.value as value_after,
    a.value - b.value as change
from later as l
left join older as o on true
left join metrics as a on l.model_id = a.model_id
left join metrics as b
    on
        o.model_id = b.model_id
        and a.patch_set = b.patch_set
        and a.protocol = b.protocol
        and a.split = b.split
        and a.scope = b.scope
        and a.name = b.name
order by a.scope, a.patch_set, a.protocol, a.split, a.name
