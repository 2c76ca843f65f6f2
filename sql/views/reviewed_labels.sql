-- reviewed_labels: what reviewers say of patches now; of several verdicts on a patch the newest holds.
--
-- grain   one row per patch that was reviewed
-- units   x, y: level-0 pixels; label: 1 tumor, 0 normal, NULL where the reviewer was unsure

select
    slide_id,
    patch_set,
    x,
    y,
    case verdict when 'tumor' then 1 when 'normal' then 0 end as label,
    verdict,
    note,
    reviewer,
    reviewed_at,
    bucket_of(slide_id) as bucket
from reviews
qualify row_number() over (partition by slide_id, patch_set, x, y order by reviewed_at desc, reviewer) = 1
order by slide_id, patch_set, y, x
