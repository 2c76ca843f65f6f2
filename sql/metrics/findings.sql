-- findings: what Camelyon16's lesion task counts: slides, their lesions with the highest hit, and false positives.
--
-- Evaluated are the slides that the model has scored and whose tumor is outlined, or that hold none. A lesion is found
-- by its most probable detection; others that hit it, and all that hit isolated tumor cells, count neither way.
-- A detection outside every lesion is a false positive.
--
-- grain     one row per slide ('slide'), per lesion ('lesion', or 'itc'), and per false positive ('false positive')
-- units     x, y: level-0 pixels; probability: 0 to 1, NULL for a lesion without a hit
-- params    $model_id, $patch_set                           whose detections, where
--           $radius_um, $smoothing_um, $min_probability     and of which heatmaps' peaks, see detections
--           $mpp   microns per pixel of every slide, as the challenge's script has 0.243; NULL for each slide's own

with

scored as (

    select distinct slide_id, patch_set, model_id, fingerprint, bucket
    from heatmaps
    where model_id = $model_id and patch_set = $patch_set

),

evaluated as (

    select s.*, t.split, coalesce($mpp, t.mpp_x) as mpp_x, coalesce($mpp, t.mpp_y) as mpp_y
    from scored as s
    inner join slides as t on s.slide_id = t.slide_id
    where
        s.slide_id in (select a.slide_id from annotated_slides as a where a.kind = 'area')
        and (
            coalesce(lower(t.label), '') <> 'tumor'
            or s.slide_id in (select a.slide_id from tumor_shapes as a where not a.is_exclusion)
        )

),

areas as (

    select slide_id, annotated_area(list(geometry), list(is_exclusion)) as area
    from tumor_shapes
    where slide_id in (select e.slide_id from evaluated as e)
    group by slide_id

),

outlined as materialized (

    select e.slide_id, e.split, lesions(a.area, e.mpp_x, e.mpp_y) as lesions
    from evaluated as e
    left join areas as a on e.slide_id = a.slide_id

),

peaks as (

    select
        d.slide_id,
        list(d.x order by d.y, d.x) as xs,
        list(d.y order by d.y, d.x) as ys,
        list(d.probability order by d.y, d.x) as probabilities
    from detections as d
    inner join evaluated as e
        on
            d.bucket = e.bucket
            and d.slide_id = e.slide_id
            and d.patch_set = e.patch_set
            and d.model_id = e.model_id
            and d.fingerprint = e.fingerprint
    where
        d.radius_um = $radius_um
        and d.smoothing_um = $smoothing_um
        and d.min_probability = $min_probability
    group by d.slide_id

),

judged as (

    select
        o.slide_id,
        o.split,
        p.xs,
        p.ys,
        p.probabilities,
        lesions_hit(list_transform(o.lesions, lambda lesion: lesion['geometry']), p.xs, p.ys) as hits
    from outlined as o
    inner join peaks as p on o.slide_id = p.slide_id

),

hits as materialized (

    select
        slide_id,
        split,
        unnest(xs) as x,
        unnest(ys) as y,
        unnest(probabilities) as probability,
        unnest(hits) as number
    from judged

),

best as (

    select
        slide_id,
        number,
        max(probability) as probability,
        arg_min(x, (-probability, y, x)) as x,
        arg_min(y, (-probability, y, x)) as y
    from hits
    where number > 0
    group by slide_id, number

),

regions as (

    select slide_id, split, unnest(lesions) as lesion
    from outlined

),

found as (

    select slide_id, split, 'slide' as kind, null::integer as number, null as x, null as y, null as probability
    from evaluated

    union all

    select
        r.slide_id,
        r.split,
        if(r.lesion['is_itc'], 'itc', 'lesion') as kind,
        r.lesion['number'] as number,
        b.x,
        b.y,
        b.probability
    from regions as r
    left join best as b on r.slide_id = b.slide_id and r.lesion['number'] = b.number

    union all

    select slide_id, split, 'false positive' as kind, null as number, x, y, probability
    from hits
    where number = 0

)

select slide_id, split, kind, number, x, y, probability
from found
order by slide_id, kind, number, y, x
