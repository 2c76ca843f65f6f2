-- heatmap_statistics: what of a slide's heatmap tells whether the slide holds tumor.
--
-- Sums of many threads differ in their last bits: twelve digits are kept.
--
-- grain     one row per slide that the model has scored
-- units     highest, mean_top, mean: probability; share_half, share_most: of the patches, from 0.5 and from 0.9 on;
--           log_peaks: natural logarithm of 1 + detections from 0.5 on; is_tumor: NULL where unknown
-- params    $model_id, $patch_set                           whose heatmaps, on which tiling
--           $radius_um, $smoothing_um, $min_probability     which detections, see detections
--           $top                                            how many patches mean_top is the mean of

with

measured as (

    select
        slide_id,
        fingerprint,
        max(probability) as highest,
        list_avg(max(probability, $top)) as mean_top,
        avg(probability) as mean,
        avg((probability >= 0.5)::integer) as share_half,
        avg((probability >= 0.9)::integer) as share_most
    from slide_predictions
    where model_id = $model_id and patch_set = $patch_set
    group by slide_id, fingerprint

),

peaks as (

    select slide_id, count(*) as peaks
    from detections
    where
        model_id = $model_id
        and patch_set = $patch_set
        and radius_um = $radius_um
        and smoothing_um = $smoothing_um
        and min_probability = $min_probability
        and probability >= 0.5
    group by slide_id

)

select
    m.slide_id,
    m.fingerprint,
    s.split,
    t.is_tumor,
    m.highest,
    round(m.mean_top, 12) as mean_top,
    round(m.mean, 12) as mean,
    round(m.share_half, 12) as share_half,
    round(m.share_most, 12) as share_most,
    round(ln(1 + coalesce(p.peaks, 0)), 12) as log_peaks
from measured as m
inner join slides as s on m.slide_id = s.slide_id
left join slide_states as t on m.slide_id = t.slide_id
left join peaks as p on m.slide_id = p.slide_id
order by m.slide_id
