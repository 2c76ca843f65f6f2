-- heatmap_tiles: the probabilities of one slide's patches, and where they are.
--
-- grain     one row per patch
-- units     x, y, span_x, span_y: level-0 pixels; probability: 0 to 1
-- params    $slide_id, $model_id
--           $patch_set   NULL: the finest tiling of the whole slide that was scored, else of a segment of it

with

scored as (

    select patch_set, x, y, probability, fingerprint
    from predictions
    where bucket = bucket_of($slide_id) and slide_id = $slide_id and model_id = $model_id

),

chosen as (

    select coalesce($patch_set, arg_max(s.patch_set, (t.region_x is null, s.patches))) as patch_set
    from (select patch_set, count(*) as patches from scored group by patch_set order by patch_set) as s
    inner join patch_sets as t on s.patch_set = t.patch_set

)

select p.x, p.y, t.span_x, t.span_y, p.probability
from scored as p
inner join chosen as c on p.patch_set = c.patch_set
inner join slide_patches as t
    on p.patch_set = t.patch_set and p.x = t.x and p.y = t.y and p.fingerprint = t.fingerprint
where t.bucket = bucket_of($slide_id) and t.slide_id = $slide_id
order by p.y, p.x
