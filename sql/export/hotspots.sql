-- hotspots: the peaks of the slides' heatmaps, highest first, found in one way on all slides.
--
-- A slide that was searched and has no peak is one row without a place: it belongs to what was evaluated.
--
-- grain     one row per peak
-- units     x, y: level-0 pixels; probability: smoothed, 0 to 1; radius_um, smoothing_um: microns
-- params    $model_id
--           $slides         patterns of slide_id to keep to, e.g. 'tumor_*'; empty for all
--           $radius_um      NULL: that of the newest search that fits
--           $smoothing_um   NULL: that of the newest search that fits

with

searches as (

    select
        slide_id,
        identity ->> 'patch_set' as patch_set,
        (identity ->> 'radius_um')::double as radius_um,
        (identity ->> 'smoothing_um')::double as smoothing_um,
        coalesce((identity ->> 'min_probability')::double, 0) as min_probability,
        arg_max(fingerprint, finished_at) as fingerprint,
        max(finished_at) as finished_at
    from runs
    where
        stage = 'detections'
        and status in ('ok', 'empty')
        and (identity ->> 'model_id') = $model_id
        and (len($slides) = 0 or len(list_filter($slides, lambda pattern: slide_id glob pattern)) > 0)
    group by all

),

newest as (

    select radius_um, smoothing_um, min_probability
    from searches
    where
        (radius_um = $radius_um or $radius_um is null)
        and (smoothing_um = $smoothing_um or $smoothing_um is null)
    order by finished_at desc, radius_um, smoothing_um, min_probability
    limit 1

),

searched as (

    select s.*
    from searches as s
    inner join newest as n
        on s.radius_um = n.radius_um and s.smoothing_um = n.smoothing_um and s.min_probability = n.min_probability
    qualify row_number() over (partition by s.slide_id order by s.finished_at desc, s.patch_set) = 1

),

peaks as (  -- those above a lower bound are the same whatever the bound: two searches find them twice

    select distinct slide_id, patch_set, radius_um, smoothing_um, fingerprint, x, y, probability
    from detections
    where model_id = $model_id

)

select
    s.slide_id,
    s.patch_set,
    s.radius_um,
    s.smoothing_um,
    row_number() over (partition by s.slide_id order by p.probability desc, p.y, p.x) as rank,
    p.x,
    p.y,
    p.probability
from searched as s
left join peaks as p
    on
        s.slide_id = p.slide_id
        and s.patch_set = p.patch_set
        and s.radius_um = p.radius_um
        and s.smoothing_um = p.smoothing_um
        and s.fingerprint = p.fingerprint
        and s.min_probability <= p.probability
order by s.slide_id, rank
