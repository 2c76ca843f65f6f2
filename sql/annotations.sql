-- annotations: every shape and centre of the annotation files, with what its group means.
--
-- `histolake groups set` writes a group's new meaning into the rows that are there.
--
-- table     annotations
-- key       slide_id, source, annotation_id
-- over      annotation_files
-- identity  source, kind
-- grain     one row per shape, or per centre of a coordinate list
-- units     geometry: WKB, level-0 pixels; label: 1 tumor, 0 normal

with

shapes as (

    select
        slide_id,
        source,
        path,
        format,
        unnest(read_annotations(path, format), recursive := true)  -- its fields become columns -- noqa: AL03
    from annotation_files
    where kind = 'area'

),

named as (  -- names are free text: where the file has a pseudonym, so have they, unless somebody gave them a meaning

    select
        s.* exclude (annotation_id, group_name),
        veiled(s.path, 'shape', s.annotation_id) as annotation_id,
        if(
            lower(s.group_name) in (select g.group_name from annotation_groups as g),
            s.group_name,
            veiled(s.path, 'group', s.group_name)
        ) as group_name
    from shapes as s

),

meant as (

    select
        s.slide_id,
        s.source,
        s.annotation_id,
        s.group_name,
        g.label,
        coalesce(g.is_exclusion, false) as is_exclusion,
        s.geometry,
        s.note,
        s.format
    from named as s
    left join annotation_groups as g on lower(s.group_name) = g.group_name

),

centres as (

    select distinct
        c.slide_id,
        c.source,
        format('{},{}', c.x, c.y) as annotation_id,
        null as group_name,
        c.label,
        false as is_exclusion,
        make_point(c.x, c.y) as geometry,
        null as note,
        f.format
    from coordinates as c
    inner join annotation_files as f on c.slide_id = f.slide_id and c.source = f.source
    where f.kind = 'point'

)

select
    slide_id,
    source,
    annotation_id,
    group_name,
    label,
    is_exclusion,
    geometry,
    note,
    format
from (
    select * from meant
    union all
    select * from centres
) as everything
order by slide_id, source, annotation_id
