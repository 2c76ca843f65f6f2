-- ledger_summary: how the units of work of every stage stand, by their newest attempts.
--
-- grain     one row per stage and status
-- units     units: of work; slides: that they concern; seconds: of computing, in sum

with

newest as (

    select *
    from runs
    qualify
        row_number() over (
            partition by stage, slide_id, identity, part order by finished_at desc, table_version desc, run_id desc
        ) = 1

)

select
    stage,
    status,
    count(*) as units,
    count(distinct slide_id) as slides,
    sum(seconds) as seconds,
    max(finished_at) as finished_at
from newest
group by stage, status
order by status = 'failed' desc, stage, status
