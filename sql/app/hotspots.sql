-- hotspots: the places of a slide that look most like tumor, highest first.
--
-- They are the slide's detections with the parameters below. Before `histolake evaluate` has looked for them, they are
-- patches that no higher one is near, looked for among the $candidates highest; of equal ones the first in reading
-- order stands.
--
-- grain     one row per hotspot
-- units     x, y: top-left corner of the patch; span_x, span_y: its size, level-0 pixels; probability: 0 to 1;
--           radius_um: microns
-- params    $slide_id, $model_id, $patch_set
--           $radius_um         least distance between two, microns; where mpp is unknown, of four patches
--           $smoothing_um      which detections
--           $min_probability   the lowest
--           $candidates        of how many of the highest patches
--           $hotspots          how many at most

with

scored as materialized (

    select
        p.x,
        p.y,
        p.span_x,
        p.span_y,
        p.probability,
        md5(p.fingerprint || ':' || count(*) over ()) as fingerprint,
        row_number() over (order by p.probability desc, p.y, p.x) as place,
        coalesce($radius_um / s.mpp_x, 4 * p.span_x) as radius_x,
        coalesce($radius_um / s.mpp_y, 4 * p.span_y) as radius_y
    from slide_predictions as p
    inner join slides as s on p.slide_id = s.slide_id
    where
        p.bucket = bucket_of($slide_id)
        and p.slide_id = $slide_id
        and p.model_id = $model_id
        and p.patch_set = $patch_set

),

detected as materialized (

    select s.x, s.y, s.span_x, s.span_y, s.probability, s.place
    from scored as s
    inner join detections as d
        on
            s.x + s.span_x / 2 = d.x
            and s.y + s.span_y / 2 = d.y
            and s.fingerprint = d.fingerprint
    where
        d.slide_id = $slide_id
        and d.model_id = $model_id
        and d.patch_set = $patch_set
        and d.radius_um = $radius_um
        and d.smoothing_um = $smoothing_um
        and d.min_probability = $min_probability

),

highest as (

    select *
    from scored
    where place <= $candidates and probability >= $min_probability

),

peaks as (

    select h.x, h.y, h.span_x, h.span_y, h.probability, h.place
    from highest as h
    where
        (select count(*) from detected) = 0
        and not exists (
            select 1
            from highest as o
            where
                o.place < h.place
                and ((o.x - h.x) / h.radius_x) ** 2 + ((o.y - h.y) / h.radius_y) ** 2 < 1
        )

)

select
    row_number() over (order by place) as rank,
    $slide_id as slide_id,
    x,
    y,
    span_x,
    span_y,
    probability,
    $radius_um as radius_um
from (from detected union all from peaks) as found
order by rank
limit $hotspots
