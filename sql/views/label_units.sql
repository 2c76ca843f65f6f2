-- label_units: the units of work that labelled patches, and which older labels each was compared with.
--
-- Labels are a log: a unit writes what differs from the labels before. What holds after it is its own rows and, where
-- it has none, the newest row of a table version up to `compared_with`.
--
-- grain   one row per slide, tiling, rule, part and evidence

select
    slide_id,
    identity ->> 'patch_set' as patch_set,
    identity ->> 'label_rule' as label_rule,
    identity ->> 'annotation_hash' as annotation_hash,
    part,
    fingerprint,
    min(table_version) as written_in,
    arg_max((input_versions ->> 'labels')::bigint, coalesce(table_version, -1)) as compared_with
from runs
where stage = 'labels' and slide_id is not null and status in ('ok', 'empty')
group by all
