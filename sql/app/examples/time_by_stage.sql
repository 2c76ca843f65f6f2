-- time_by_stage: where the time went.
--
-- grain   one row per stage
-- units   seconds: of computing; rows_per_second: rows written in one of them

select
    stage,
    count(*) as units,
    sum(rows) as rows,
    round(sum(seconds), 1) as seconds,
    round(sum(rows) / nullif(sum(seconds), 0), 1) as rows_per_second,
    max(finished_at) as last_finished_at
from runs
where status <> 'failed'
group by stage
order by seconds desc, stage
