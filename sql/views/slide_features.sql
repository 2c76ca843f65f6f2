-- slide_features: the embeddings that are up to date.
--
-- grain   one row per patch and encoder; embedding is NULL where the patch was unreadable

select
    f.slide_id,
    f.patch_set,
    f.encoder_id,
    f.part,
    f.x,
    f.y,
    f.embedding,
    f.error,
    f.fingerprint,
    f.bucket,
    t.split,
    t.patient_id
from features as f
inner join slide_tilings as t
    on f.slide_id = t.slide_id and f.patch_set = t.patch_set and f.fingerprint = t.fingerprint
