-- neighbours: the patches of the lake whose features are most like those of one patch, most alike first.
--
-- Looked for on as many slides as hold $patches together, taken in the order of a hash of their ids so that they are
-- the same each time; the patch's own slide is always among them, the patch itself never.
--
-- grain     one row per patch
-- units     x, y, span_x, span_y: level-0 pixels; similarity: cosine of the embeddings, -1 to 1;
--           probability of tumor by the model, 0 to 1; label: 1 tumor, 0 normal, by the model's rule
-- params    $slide_id, $patch_set, $x, $y   the patch
--           $model_id                       its encoder and tiling are those that are compared
--           $patches                        most patches to compare with
--           $neighbours                     how many to return at most

with

model as (

    select encoder_id, label_rule, patch_px, mpp
    from models
    where model_id = $model_id

),

tilings as (

    select t.patch_set
    from patch_sets as t
    inner join model as m on t.patch_px = m.patch_px and t.mpp = m.mpp

),

sizes as (

    select slide_id, count(*) as patches
    from patches
    where patch_set in (select t.patch_set from tilings as t)
    group by slide_id

),

searched as (

    select slide_id
    from sizes
    qualify slide_id = $slide_id or sum(patches) over (order by slide_id <> $slide_id, md5(slide_id)) <= $patches

),

asked as (

    select f.embedding
    from slide_features as f
    inner join model as m on f.encoder_id = m.encoder_id
    where
        f.bucket = bucket_of($slide_id)
        and f.slide_id = $slide_id
        and f.patch_set = $patch_set
        and f.x = $x
        and f.y = $y
        and f.embedding is not null

),

nearest as (

    select
        f.bucket,
        f.slide_id,
        f.patch_set,
        f.x,
        f.y,
        f.fingerprint,
        list_cosine_similarity(f.embedding, a.embedding) as similarity
    from slide_features as f
    inner join model as m on f.encoder_id = m.encoder_id
    cross join asked as a
    where
        f.slide_id in (select s.slide_id from searched as s)
        and f.patch_set in (select t.patch_set from tilings as t)
        and f.embedding is not null
        and (f.slide_id <> $slide_id or f.patch_set <> $patch_set or f.x <> $x or f.y <> $y)
    order by similarity desc, f.slide_id, f.patch_set, f.y, f.x
    limit $neighbours

)

select
    n.slide_id,
    p.path,
    n.x,
    n.y,
    p.span_x,
    p.span_y,
    n.similarity,
    r.probability,
    l.label
from nearest as n
cross join model as m
inner join slide_patches as p
    on n.bucket = p.bucket and n.slide_id = p.slide_id and n.patch_set = p.patch_set and n.x = p.x and n.y = p.y
left join predictions as r
    on
        n.bucket = r.bucket
        and n.slide_id = r.slide_id
        and n.patch_set = r.patch_set
        and n.x = r.x
        and n.y = r.y
        and n.fingerprint = r.fingerprint
        and r.model_id = $model_id
left join current_labels as l
    on
        n.bucket = l.bucket
        and n.slide_id = l.slide_id
        and n.patch_set = l.patch_set
        and n.x = l.x
        and n.y = l.y
        and m.label_rule = l.label_rule
order by n.similarity desc, n.slide_id, n.patch_set, n.y, n.x
