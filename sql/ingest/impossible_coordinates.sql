-- impossible_coordinates: centres that no slide can hold, or that name no slide.
--
-- grain     one row per centre

select source, slide_id, x, y
from coordinates
where slide_id is null or not coalesce(abs(x) < 1e9 and abs(y) < 1e9, false)  -- NaN is larger than any number
order by all
