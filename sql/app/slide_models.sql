-- slide_models: every model, the champion first, with the tiling of one slide that it has scored and how much of it.
--
-- Of several tilings it is the finest of the whole slide, else of a segment: heatmap_tiles chooses alike.
--
-- grain     one row per model
-- units     patches: of the tiling; scored: those of them with a probability, 0 where the model has not seen the slide;
--           patch_px, mpp: of the patches that it may score, px and microns per px;
--           stride_x, stride_y: step of the tiling's grid, level-0 pixels, NULL for centres;
--           has_labels: whether annotations label patches of the slide by the model's rule
-- params    $slide_id

with

patches_found as (

    select patch_set, count(*) as patches
    from slide_patches
    where bucket = bucket_of($slide_id) and slide_id = $slide_id
    group by patch_set

),

counted as (

    select r.model_id, r.patch_set, count(*) as scored
    from predictions as r
    inner join slide_tilings as t
        on r.slide_id = t.slide_id and r.patch_set = t.patch_set and r.fingerprint = t.fingerprint
    where r.bucket = bucket_of($slide_id) and r.slide_id = $slide_id
    group by r.model_id, r.patch_set

),

chosen as (

    select c.model_id, c.patch_set, c.scored, p.patches, t.stride_px * t.mpp as stride_um
    from counted as c
    inner join patch_sets as t on c.patch_set = t.patch_set
    inner join patches_found as p on c.patch_set = p.patch_set
    qualify
        row_number() over (
            partition by c.model_id order by t.region_x is null desc, c.scored desc, c.patch_set
        ) = 1

),

labelled as (

    select distinct patch_set, label_rule
    from current_labels
    where bucket = bucket_of($slide_id) and slide_id = $slide_id

)

select
    m.model_id,
    m.encoder_id,
    m.threshold,
    m.patch_px,
    m.mpp,
    m.model_id = coalesce((select k.value from settings as k where k.name = 'champion'), '') as is_champion,
    c.patch_set,
    coalesce(c.scored, 0) as scored,
    c.patches,
    c.stride_um / s.mpp_x as stride_x,
    c.stride_um / s.mpp_y as stride_y,
    l.patch_set is not null as has_labels
from models as m
left join slides as s on s.slide_id = $slide_id
left join chosen as c on m.model_id = c.model_id
left join labelled as l on c.patch_set = l.patch_set and m.label_rule = l.label_rule
order by is_champion desc, m.trained_at desc, m.model_id
