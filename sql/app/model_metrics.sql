-- model_metrics: the numbers that were measured of the champion, on the tiling that it was trained on.
--
-- grain     one row per split and name
-- units     value, low, high: 0 to 1, or a count; is_current: whether the tables measured are as they are now

with

measured as (

    select t.split, t.name, t.value, t.low, t.high, t.patch_set, t.table_versions, t.measured_at
    from metrics as t
    inner join settings as s on s.name = 'champion' and t.model_id = s.value
    inner join models as m on t.model_id = m.model_id and t.patch_set = m.patch_set
    where t.scope = 'patch' and t.protocol = 'by_slide'

),

outdated as (

    select distinct m.table_versions
    from (select distinct table_versions from measured) as m
    inner join snapshot as s on (m.table_versions ->> s.table_name)::bigint <> s.version

)

select
    m.split,
    m.name,
    m.value,
    m.low,
    m.high,
    m.patch_set,
    m.measured_at,
    o.table_versions is null as is_current
from measured as m
left join outdated as o on m.table_versions = o.table_versions
order by m.split, m.name
