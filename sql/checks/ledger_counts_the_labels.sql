-- ledger_counts_the_labels: a unit of labels that the ledger calls ok has as many rows as it says.

with

newest as (

    select
        slide_id,
        identity ->> 'patch_set' as patch_set,
        identity ->> 'label_rule' as label_rule,
        identity ->> 'annotation_hash' as annotation_hash,
        part,
        arg_max(status, finished_at) as status,
        arg_max(rows, finished_at) as said
    from runs
    where stage = 'labels' and slide_id is not null
    group by all

),

counted as (

    select slide_id, patch_set, label_rule, annotation_hash, part, count(*) as found
    from labels
    group by all

)

select n.slide_id, n.patch_set, n.label_rule, n.annotation_hash, n.part, n.said, coalesce(c.found, 0) as found
from newest as n
left join counted as c
    on
        n.slide_id = c.slide_id
        and n.patch_set = c.patch_set
        and n.label_rule = c.label_rule
        and n.annotation_hash = c.annotation_hash
        and n.part = c.part
where n.status = 'ok' and n.said <> coalesce(c.found, 0)
order by all
