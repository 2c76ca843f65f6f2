-- annotation_files: the annotation files found, one row per slide that each speaks of.
--
-- A file is named like its slide; one called like the slide's whole file name ('a.tif.geojson') belongs to 'a',
-- unless there is a slide 'a.tif'.
--
-- grain     one row per slide and annotation file

with

registered as (

    select slide_id from slides
    union
    select slide_id from slide_files

)

select
    case when stem in (select slide_id from registered) then stem else slide_stem end as slide_id,
    path,
    parse_filename(path) as source,
    annotation_format(path) as format,
    'area' as kind,
    coalesce(file_hash(path), 'unreadable') as fingerprint
from found_annotations

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
