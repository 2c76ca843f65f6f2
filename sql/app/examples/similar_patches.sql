-- similar_patches: the patches whose embeddings lie nearest to that of the most suspicious patch.
--
-- grain   one row per patch
-- units   x, y: left and top edge, level-0 pixels; similarity: cosine, -1 to 1

with

hottest as (

    select slide_id, patch_set, x, y, bucket
    from current_predictions
    order by probability desc, slide_id, y, x
    limit 1

),

sought as (

    select f.encoder_id, f.embedding
    from slide_features as f
    inner join hottest as h
        on f.bucket = h.bucket and f.slide_id = h.slide_id and f.patch_set = h.patch_set and f.x = h.x and f.y = h.y
    inner join settings as s on s.name = 'champion'
    inner join models as m on s.value = m.model_id and f.encoder_id = m.encoder_id

)

select f.slide_id, f.x, f.y, f.split, round(list_cosine_similarity(f.embedding, s.embedding), 4) as similarity
from slide_features as f
inner join sought as s on f.encoder_id = s.encoder_id
where f.embedding is not null
order by similarity desc, f.slide_id, f.y, f.x
limit 20
