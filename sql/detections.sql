-- detections: the peaks of every slide's heatmap, by non-maximum suppression.
--
-- The heatmap is smoothed with a Gaussian over the patches that there are, up to three standard deviations away.
-- Then the highest patch is a peak and all others within the radius are none, and so on with the patches that are
-- left; equal ones rank by y, then x. Here that goes in rounds: a patch without a higher one within the radius is a
-- peak, and suppresses its neighbours; a patch is looked at again until it is the one or the other.
--
-- table     detections
-- key       slide_id, patch_set, model_id, radius_um, smoothing_um, min_probability, x, y
-- over      heatmaps
-- identity  patch_set, model_id, radius_um, smoothing_um, min_probability
-- grain     one row per peak
-- units     x, y: centre of the peak's patch, level-0 pixels; probability: smoothed, 0 to 1
-- params    $radius_um         least distance between two peaks, microns
--           $smoothing_um      standard deviation of the Gaussian, microns; 0 for none
--           $min_probability   the lowest peak
-- optional

with recursive

centres as (

    select
        *,
        x * mpp_x as x_um,
        y * mpp_y as y_um,
        (x * mpp_x // greatest(3 * $smoothing_um, 1))::bigint as cell_x,
        (y * mpp_y // greatest(3 * $smoothing_um, 1))::bigint as cell_y
    from heatmaps

),

reached as (  -- every patch in its cell and in those that touch it: what is near shares one with it

    select * exclude (cell_x, cell_y), cell_x + i as cell_x, cell_y + j as cell_y
    from centres, unnest([-1, 0, 1]) as across (i), unnest([-1, 0, 1]) as down (j)

),

weighted as (

    select
        c.* exclude (probability, mpp_x, mpp_y, cell_x, cell_y, bucket),
        n.probability,
        (c.x_um - n.x_um) ** 2 + (c.y_um - n.y_um) ** 2 as squared
    from centres as c
    inner join reached as n on c.cell_x = n.cell_x and c.cell_y = n.cell_y

),

smoothed as (  -- twelve digits: sums of many threads differ in their last bits, and ranks must not

    select
        * exclude (probability, squared),
        round(
            sum(probability * if(squared = 0, 1, exp(-squared / (2 * $smoothing_um ** 2))))
            / sum(if(squared = 0, 1, exp(-squared / (2 * $smoothing_um ** 2)))),
            12
        ) as probability
    from weighted
    where squared <= (3 * $smoothing_um) ** 2
    group by all

),

ranked as materialized (

    select
        *,
        row_number() over (order by probability desc, y, x) as rank,
        (x_um // $radius_um)::bigint as cell_x,
        (y_um // $radius_um)::bigint as cell_y
    from smoothed
    where probability >= $min_probability

),

threatened as (

    select rank, x_um, y_um, cell_x + i as cell_x, cell_y + j as cell_y
    from ranked, unnest([-1, 0, 1]) as across (i), unnest([-1, 0, 1]) as down (j)

),

rivals as materialized (  -- every patch beside each higher one within the radius

    select l.rank as lower, h.rank as higher
    from ranked as l
    inner join threatened as h on l.cell_x = h.cell_x and l.cell_y = h.cell_y
    where
        h.rank < l.rank
        and (l.x_um - h.x_um) ** 2 + (l.y_um - h.y_um) ** 2 <= $radius_um ** 2

),

rounds as (  -- patches that no peak suppresses (yet)

    select rank, rank not in (select lower from rivals) as is_peak
    from ranked

    union all

    select o.rank, count(h.rank) = 0 as is_peak
    from rounds as o
    left join rivals as r on o.rank = r.lower
    left join rounds as h on r.higher = h.rank
    where not o.is_peak
    group by o.rank
    having not coalesce(bool_or(h.is_peak), false)

)

select
    p.slide_id,
    p.patch_set,
    p.model_id,
    $radius_um as radius_um,
    $smoothing_um as smoothing_um,
    $min_probability as min_probability,
    p.x,
    p.y,
    p.probability,
    p.fingerprint
from ranked as p
inner join rounds as o on p.rank = o.rank
where o.is_peak
order by p.slide_id, p.patch_set, p.model_id, p.probability desc, p.y, p.x
