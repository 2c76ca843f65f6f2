-- patch_at: the patch that is meant by each place on a slide.
--
-- Of the patches around a place one is meant that the model has scored, if there is any: the one whose own corner
-- the place is; else, in the finest tiling of whole slides, the one whose centre is nearest.
--
-- grain     one row per place that a patch covers
-- units     x, y, span_x, span_y: level-0 pixels; probability: 0 to 1, NULL where the model has not scored the patch;
--           label: 1 tumor, 0 normal, by the model's rule; NULL where annotations do not tell
-- params    $model_id    only tilings that this model may score; NULL: any tiling, and no prediction
--           $patch_set   only this tiling; NULL: any
-- reads     places       position, slide_id, x, y: level-0 pixels

with

tilings as (

    select t.patch_set, t.region_x is null as is_whole, t.stride_px, m.model_id, m.label_rule
    from patch_sets as t
    left join models as m on m.model_id = $model_id
    where
        (m.model_id is null or (t.patch_px = m.patch_px and t.mpp = m.mpp))
        and ($patch_set is null or t.patch_set = $patch_set)

),

around as (

    select
        w.position,
        p.slide_id,
        p.patch_set,
        p.bucket,
        p.part,
        p.x,
        p.y,
        p.span_x,
        p.span_y,
        p.fingerprint,
        t.model_id,
        t.label_rule,
        t.is_whole,
        t.stride_px,
        p.x = w.x and p.y = w.y as is_its_corner,
        (p.x + p.span_x / 2 - w.x) ** 2 + (p.y + p.span_y / 2 - w.y) ** 2 as squared_distance
    from places as w
    inner join slide_patches as p
        on
            p.bucket = bucket_of(w.slide_id)
            and w.slide_id = p.slide_id
            and w.x >= p.x
            and w.x < p.x + p.span_x
            and w.y >= p.y
            and w.y < p.y + p.span_y
    inner join tilings as t on p.patch_set = t.patch_set

)

select
    a.position,
    a.slide_id,
    a.patch_set,
    a.part,
    a.x,
    a.y,
    a.span_x,
    a.span_y,
    a.model_id,
    r.probability,
    l.label
from around as a
left join predictions as r
    on
        a.bucket = r.bucket
        and a.slide_id = r.slide_id
        and a.patch_set = r.patch_set
        and a.model_id = r.model_id
        and a.x = r.x
        and a.y = r.y
        and a.fingerprint = r.fingerprint
left join current_labels as l
    on
        a.bucket = l.bucket
        and a.slide_id = l.slide_id
        and a.patch_set = l.patch_set
        and a.label_rule = l.label_rule
        and a.x = l.x
        and a.y = l.y
qualify
    row_number() over (
        partition by a.position
        order by
            r.probability is null,
            a.is_its_corner desc,
            a.is_whole desc,
            a.stride_px nulls last,
            a.squared_distance,
            a.patch_set,
            a.y,
            a.x
    ) = 1
order by a.position
