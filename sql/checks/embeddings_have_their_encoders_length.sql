-- embeddings_have_their_encoders_length: an embedding has as many numbers as its encoder gives, all finite.

select
    f.slide_id,
    f.patch_set,
    f.encoder_id,
    f.x,
    f.y,
    len(f.embedding) as numbers,
    e.dims
from features as f
left join encoders as e on f.encoder_id = e.encoder_id
where
    f.embedding is not null
    and (e.dims is null or len(f.embedding) <> e.dims or not isfinite(list_sum(f.embedding)))
order by all
