-- undone: the planned units that still have to be done.
--
-- Done is a unit whose newest entry in the ledger is ok, empty or failed, for the same fingerprint.
-- A commit of another fingerprint replaced all older parts of its unit, also when it says that they failed: entries
-- before it do not count. Which came first the table's versions tell, as its rows do; entries without one, the time.
--
-- grain     one row per unit of work
-- params    $stage          the stage
--           $slides         patterns of slide_id to keep to, e.g. 'tumor_*'; empty for all
--           $retry_failed   whether failed units are to be done again

with

ledger as (

    select slide_id, identity, part, fingerprint, status, finished_at, table_version
    from runs
    where stage = $stage and slide_id is not null

),

overwritten as (

    select p.slide_id, p.identity, max(l.table_version) as table_version, max(l.finished_at) as at
    from (select distinct slide_id, identity, fingerprint from planned) as p
    inner join ledger as l on p.slide_id = l.slide_id and p.identity = l.identity
    where p.fingerprint <> l.fingerprint and l.table_version is not null
    group by all

),

done as (

    select p.slide_id, p.identity, p.part
    from planned as p
    inner join ledger as l
        on
            p.slide_id = l.slide_id
            and p.identity = l.identity
            and p.part = l.part
            and p.fingerprint = l.fingerprint
    left join overwritten as o on p.slide_id = o.slide_id and p.identity = o.identity
    where coalesce(l.table_version > o.table_version, l.finished_at > o.at, true)
    group by all
    having arg_max(l.status, l.finished_at) <> 'failed' or not $retry_failed

)

select p.*, bucket_of(p.slide_id) as bucket
from planned as p
anti join done as d on p.slide_id = d.slide_id and p.identity = d.identity and p.part = d.part
where len($slides) = 0 or len(list_filter($slides, lambda pattern: p.slide_id glob pattern)) > 0
order by p.slide_id, p.identity, p.part
