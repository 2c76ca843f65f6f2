-- labels: what the annotations say of every patch.
--
-- table     labels
-- key       slide_id, patch_set, label_rule, annotation_hash, x, y
-- over      labelable_patches
-- identity  patch_set, label_rule, kind, annotation_hash
-- grain     one row per patch of an annotated slide; by points: per patch with a point at its centre
-- units     x, y: level-0 pixels; label: 1 tumor, 0 normal
-- params    $label_rule    'centre': the patch's centre is annotated tumor; 'points': its centre is an
--                          annotated point, and has that label; 'covered>=F': as below
--           $min_covered   the smallest fraction of the patch that annotated tumor covers, for 'covered>=F'

with

tumor as (

    select
        slide_id,
        annotated_area(list(geometry), list(is_exclusion)) as area
    from annotations
    where
        (label = 1 or is_exclusion)
        and format <> 'ncrf_csv'
        and slide_id in (select slide_id from labelable_patches)
    group by slide_id

),

squares as (

    select
        slide_id,
        patch_set,
        part,
        annotation_hash,
        fingerprint,
        list(x::double order by y, x) as xs,
        list(y::double order by y, x) as ys,
        list(span_x order by y, x) as widths,
        list(span_y order by y, x) as heights
    from labelable_patches
    where $label_rule <> 'points'
    group by all

),

judged as (

    select
        s.*,
        case $label_rule
            when 'centre'
                then contains_points(
                    t.area,
                    list_transform(list_zip(xs, widths), lambda v: v[1] + v[2] / 2),
                    list_transform(list_zip(ys, heights), lambda v: v[1] + v[2] / 2)
                )
            else list_transform(
                covered_fractions(t.area, xs, ys, widths, heights), lambda f: f >= $min_covered
            )
        end as is_tumor
    from squares as s
    left join tumor as t on s.slide_id = t.slide_id

),

by_area as (

    select
        slide_id,
        patch_set,
        part,
        annotation_hash,
        unnest(xs)::bigint as x,
        unnest(ys)::bigint as y,
        unnest(is_tumor)::integer as label,
        fingerprint
    from judged

),

by_point as (

    select
        p.slide_id,
        p.patch_set,
        p.part,
        p.annotation_hash,
        p.x,
        p.y,
        max(a.label) as label,
        p.fingerprint
    from labelable_patches as p
    inner join annotations as a
        on
            p.slide_id = a.slide_id
            and p.x = round(point(a.geometry).x - p.span_x / 2)
            and p.y = round(point(a.geometry).y - p.span_y / 2)
    where
        $label_rule = 'points'
        and a.format = 'ncrf_csv'
    group by all

)

select
    slide_id,
    patch_set,
    part,
    $label_rule as label_rule,
    annotation_hash,
    x,
    y,
    label,
    fingerprint
from (
    select * from by_area
    union all
    select * from by_point
) as everything
order by slide_id, patch_set, part, y, x
