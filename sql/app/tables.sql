-- tables: every table at the version that is read, and who wrote to it last.
--
-- grain     one row per table; nobody has written to those of NULLs
-- units     stage, run_id, code_version: of the ledger's newest entry that has a commit; for the ledger, of its newest

with

writes as (

    select stage as table_name, stage, finished_at, run_id, code_version, table_version
    from runs
    where table_version is not null

    union all

    select 'runs' as table_name, stage, finished_at, run_id, code_version, null as table_version
    from runs

),

newest as (

    select table_name, stage, finished_at, run_id, code_version
    from writes
    qualify row_number() over (partition by table_name order by table_version desc, finished_at desc, run_id) = 1

)

select
    s.table_name,
    s.version,
    n.finished_at as written_at,
    n.stage,
    n.run_id,
    n.code_version
from snapshot as s
left join newest as n on s.table_name = n.table_name
order by s.table_name
