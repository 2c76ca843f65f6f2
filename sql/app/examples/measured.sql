-- measured: the numbers that were measured of every model, with their 95 % intervals.
--
-- grain   one row per model, protocol, split, scope and name
-- units   value, low, high: 0 to 1, or a count

select model_id, protocol, split, scope, name, value, low, high, measured_at
from metrics
order by model_id, protocol, scope, name, split
