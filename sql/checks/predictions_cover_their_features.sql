-- predictions_cover_their_features: where a part of a slide was scored, every readable patch of it has a probability.

with

scored as (

    select distinct p.slide_id, p.patch_set, m.encoder_id, p.model_id, p.part
    from predictions as p
    inner join models as m on p.model_id = m.model_id
    inner join slide_tilings as t
        on p.slide_id = t.slide_id and p.patch_set = t.patch_set and p.fingerprint = t.fingerprint

)

select f.slide_id, f.patch_set, s.model_id, f.x, f.y
from slide_features as f
inner join scored as s
    on
        f.slide_id = s.slide_id
        and f.patch_set = s.patch_set
        and f.encoder_id = s.encoder_id
        and f.part = s.part
anti join predictions as p
    on
        f.slide_id = p.slide_id
        and f.patch_set = p.patch_set
        and s.model_id = p.model_id
        and f.x = p.x
        and f.y = p.y
where f.embedding is not null
order by all
