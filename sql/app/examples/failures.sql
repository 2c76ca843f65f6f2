-- failures: what could not be done, newest first, with the reason and the remedy.
--
-- grain   one row per failed unit of work

select finished_at, stage, slide_id, part, error
from runs
where status = 'failed'
order by finished_at desc, stage, slide_id, part
limit 100
