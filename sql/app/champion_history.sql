-- champion_history: which models were made the champion, when and why, the newest first.
--
-- grain     one row per time; model_id is NULL where an older histolake did it
-- units     version: Delta version of the table settings that says so first

select
    finished_at,
    parameters ->> 'model_id' as model_id,
    parameters ->> 'reason' as reason,
    run_id,
    table_version as version,
    code_version
from runs
where stage = 'settings' and (identity ->> 'name') = 'champion'
order by finished_at desc, table_version desc
