-- summary: how long the chain of the audit table is, where it ends, and whether it holds a hash that was kept.
--
-- grain   one row
-- units   first_at, last_at: UTC; kept_sequence: place of the row with the hash that was kept, NULL where none has it
-- params  $tip  the hash that was kept; NULL for none

select
    count(*) as events,
    min(recorded_at) as first_at,
    max(recorded_at) as last_at,
    max(sequence) as sequence,
    arg_max(hash, sequence) as tip,
    min(sequence) filter (where hash = $tip) as kept_sequence
from audit
