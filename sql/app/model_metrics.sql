-- model_metrics: the numbers that were measured of a model, on the tiling that it was trained on.
--
-- A number is outdated when the ledger has a later commit to a table that it was computed from. Commits that concern
-- another model, tiling or rule of labels do not count, nor does upkeep, which changes no row.
--
-- grain     one row per split, scope and name
-- units     value, low, high: 0 to 1, or a count; parameters: JSON; is_current: whether it holds now
-- params    $model_id

with

measured as (

    select t.*, m.label_rule
    from metrics as t
    inner join models as m on t.model_id = m.model_id and t.patch_set = m.patch_set and t.protocol = m.protocol
    where t.model_id = $model_id

),

commits as (  -- slide_scores names model and tiling in its parameters, the stages in the unit's identity

    select distinct
        stage,
        table_version,
        coalesce(identity ->> 'model_id', parameters ->> 'model_id') as model_id,
        coalesce(identity ->> 'patch_set', parameters ->> 'patch_set') as patch_set,
        identity ->> 'label_rule' as label_rule
    from runs
    where table_version is not null and (parameters ->> 'operation') is null

),

outdated as (

    select distinct m.table_versions
    from (select distinct table_versions, model_id, patch_set, label_rule from measured) as m
    inner join commits as c
        on
            c.table_version > (m.table_versions ->> c.stage)::bigint
            and coalesce(c.model_id, m.model_id) = m.model_id
            and coalesce(c.patch_set, m.patch_set) = m.patch_set
            and coalesce(c.label_rule, m.label_rule) = m.label_rule

)

select
    m.split,
    m.scope,
    m.name,
    m.value,
    m.low,
    m.high,
    m.parameters,
    m.measured_at,
    o.table_versions is null as is_current
from measured as m
left join outdated as o on m.table_versions = o.table_versions
order by m.split, m.scope, m.name
