-- hotspots: the places of a slide that look most like tumor: patches that no higher one is near, highest first.
--
-- Of equal ones the first in reading order stands. Looked for among the $candidates highest patches of the slide.
--
-- grain     one row per hotspot
-- units     x, y: top-left corner of the patch; span_x, span_y: its size, level-0 pixels; probability: 0 to 1;
--           radius_um: microns
-- params    $slide_id, $model_id, $patch_set
--           $radius_um    least distance between two, microns; where mpp is unknown, of four patches
--           $min_probability   the lowest
--           $candidates   of how many of the highest patches
--           $hotspots     how many at most

with

highest as (

    select
        p.x,
        p.y,
        p.span_x,
        p.span_y,
        p.probability,
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
        and p.probability >= $min_probability
    qualify place <= $candidates

),

peaks as (

    select h.*
    from highest as h
    where not exists (
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
from peaks
order by rank
limit $hotspots
