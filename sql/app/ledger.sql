-- ledger: what every run did, failures that still hold first, then the newest.
--
-- grain     one row per unit of work and attempt
-- units     seconds: of computing; is_newest: whether no later attempt at the unit was made; total: entries that match
-- params    $stage, $status   only these; NULL for all
--           $slide            only slides whose id contains it, whatever the case; NULL for all
--           $entries          how many at most

with

attempts as (

    select
        *,
        row_number() over (
            partition by stage, slide_id, identity, part order by finished_at desc, table_version desc, run_id desc
        ) = 1 as is_newest
    from runs

),

matching as (

    select *
    from attempts
    where
        ($stage is null or stage = $stage)
        and ($status is null or status = $status)
        and ($slide is null or contains(lower(slide_id), lower($slide)))

)

select
    stage,
    status,
    slide_id,
    error,
    rows,
    errors,
    seconds,
    finished_at,
    run_id,
    identity,
    part,
    table_version,
    code_version,
    is_newest,
    count(*) over () as total
from matching
order by
    status = 'failed' and is_newest desc,
    finished_at desc,
    stage,
    slide_id,
    identity,
    part,
    run_id
limit $entries
