-- verdicts_are_known: a reviewer's verdict is 'tumor', 'normal' or 'unsure'.

select slide_id, patch_set, x, y, reviewer, verdict
from reviews
where coalesce(verdict, '') not in ('tumor', 'normal', 'unsure')
order by all
