-- labels: what the annotations say of every patch, where they say something else than before.
--
-- table     labels
-- key       slide_id, patch_set, label_rule, annotation_hash, x, y
-- over      labelable_patches
-- counts    labelable_units
-- identity  patch_set, label_rule, kind, annotation_hash
-- grain     one row per patch of an annotated slide (by points: with a point at its centre) whose label is new
-- units     x, y: level-0 pixels; label: 1 tumor, 0 normal; NULL: no longer labelled
-- params    $label_rule    'centre': the patch's centre is annotated tumor; 'points': its centre is an
--                          annotated point, and has that label; 'covered>=F': as below
--           $min_covered   the smallest fraction of the patch that annotated tumor covers, for 'covered>=F'

with

tumor as (

    select
        slide_id,
        annotated_area(list(geometry), list(is_exclusion)) as area
    from tumor_shapes
    where slide_id in (select slide_id from labelable_patches)
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

),

said as (

    select * from by_area
    union all
    select * from by_point

),

units as (

    select distinct slide_id, patch_set, part, annotation_hash, fingerprint, bucket
    from labelable_patches

),

held as (

    select
        l.slide_id,
        l.patch_set,
        l.part,
        n.annotation_hash,
        l.x,
        l.y,
        arg_max_null(l.label, u.written_in) as label,
        l.fingerprint
    from units as n
    inner join labels as l
        on
            n.bucket = l.bucket
            and n.slide_id = l.slide_id
            and n.patch_set = l.patch_set
            and n.part = l.part
            and n.fingerprint = l.fingerprint
    inner join label_units as u
        on
            l.slide_id = u.slide_id
            and l.patch_set = u.patch_set
            and l.label_rule = u.label_rule
            and l.annotation_hash = u.annotation_hash
            and l.part = u.part
    where l.label_rule = $label_rule
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
    s.label,
    fingerprint
from said as s
full join held as h using (slide_id, patch_set, part, annotation_hash, x, y, fingerprint)
where s.label is distinct from h.label
order by slide_id, patch_set, part, y, x
