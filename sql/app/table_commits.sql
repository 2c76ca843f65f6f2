-- table_commits: what the ledger tells of the commits to one table, the newest first.
--
-- grain     one row per Delta version that the ledger records
-- units     units: ledger entries of the commit; rows: that it wrote; operation: of upkeep, else NULL
-- params    $table_name

select
    table_version as version,
    max(finished_at) as finished_at,
    any_value(run_id) as run_id,
    any_value(code_version) as code_version,
    count(*) as units,
    count(distinct slide_id) as slides,
    sum(rows)::bigint as rows,
    any_value(parameters ->> 'operation') as operation
from runs
where stage = $table_name and table_version is not null
group by table_version
order by table_version desc
