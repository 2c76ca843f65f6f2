-- shapes: the shapes that were added, removed or changed between two versions of the annotations.
--
-- A shape that only has another name is the same. Shapes of one name in one file are compared with each other.
--
-- grain   one row per shape that differs
-- units   before_px, after_px, differing_px: areas, level-0 px; the last lies in one of the two shapes only;
--         before_mm2, after_mm2, differing_mm2: the same, NULL where the slide's resolution is not known

with

gone as (

    select b.*
    from annotations_before as b
    anti join annotations as a
        on
            b.slide_id = a.slide_id
            and b.geometry = a.geometry
            and b.group_name is not distinct from a.group_name
            and b.label is not distinct from a.label
            and b.is_exclusion = a.is_exclusion

),

new as (

    select a.*
    from annotations as a
    anti join annotations_before as b
        on
            a.slide_id = b.slide_id
            and a.geometry = b.geometry
            and a.group_name is not distinct from b.group_name
            and a.label is not distinct from b.label
            and a.is_exclusion = b.is_exclusion

),

paired as (

    select
        slide_id,
        source,
        annotation_id,
        coalesce(new.group_name, gone.group_name) as group_name,
        meaning_of(gone.label, gone.is_exclusion) as meaning_before,
        meaning_of(new.label, new.is_exclusion) as meaning_after,
        gone.geometry as geometry_before,
        new.geometry as geometry_after,
        case
            when gone.slide_id is null then 'added'
            when new.slide_id is null then 'removed'
            else 'changed'
        end as change
    from gone
    full join new using (slide_id, source, annotation_id)

),

measured as materialized (  -- once: areas are asked for twice below

    select
        *,
        area_of(geometry_before) as before_px,
        area_of(geometry_after) as after_px,
        differing_area(geometry_before, geometry_after) as differing_px
    from paired

)

select
    m.slide_id,
    m.source,
    m.annotation_id,
    m.change,
    m.group_name,
    if(m.change = 'added', null, m.meaning_before) as meaning_before,
    if(m.change = 'removed', null, m.meaning_after) as meaning_after,
    m.before_px,
    m.after_px,
    m.differing_px,
    m.before_px * s.mpp_x * s.mpp_y / 1e6 as before_mm2,
    m.after_px * s.mpp_x * s.mpp_y / 1e6 as after_mm2,
    m.differing_px * s.mpp_x * s.mpp_y / 1e6 as differing_mm2
from measured as m
left join slides as s on m.slide_id = s.slide_id
order by m.slide_id, m.source, m.annotation_id
