-- annotation_files: the annotation files found, one row per slide that each speaks of.
--
-- The fingerprint covers what groups mean: change that, and annotations are read again.
--
-- grain     one row per slide and annotation file

with

meanings as (

    select md5(string_agg(concat_ws('|', group_name, label, is_exclusion), ',' order by group_name)) as meaning
    from annotation_groups

)

select
    slide_id,
    path,
    parse_filename(path) as source,
    'asap_xml' as format,
    'area' as kind,
    md5(coalesce(file_hash(path), 'unreadable') || meaning) as fingerprint
from found_annotations
cross join meanings

union all

select
    slide_id,
    null as path,
    source,
    'ncrf_csv' as format,
    'point' as kind,
    md5(string_agg(concat_ws('|', x, y, label), ',' order by x, y, label)) as fingerprint
from coordinates
group by slide_id, source

order by slide_id, source
