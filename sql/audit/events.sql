-- events: what the audit table tells, the newest first.
--
-- grain   one row per event
-- params  $who, $slide, $action  only those whose subject or name, slide or action matches, with * and ?; NULL for all
--         $since                 only from this time on; NULL for all
--         $events                how many at most

select
    sequence,
    recorded_at,
    subject,
    name,
    role,
    via,
    action,
    slide_id,
    object,
    versions,
    details,
    hash
from audit
where
    ($who is null or subject glob $who or name glob $who)
    and ($slide is null or slide_id glob $slide)
    and ($action is null or action glob $action)
    and ($since::timestamptz is null or recorded_at >= $since::timestamptz)
order by sequence desc
limit $events
