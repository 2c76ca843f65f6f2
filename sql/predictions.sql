-- predictions: the model's probability of tumor in every readable patch.
--
-- table     predictions
-- key       slide_id, patch_set, model_id, x, y
-- over      slide_features
-- counts    feature_units
-- identity  patch_set, encoder_id, model_id
-- order     y, x
-- grain     one row per patch with an embedding
-- units     x, y: level-0 pixels; probability: 0 to 1
-- params    $model_id     the model, see models
--           $encoder_id   the encoder whose features it takes

select
    slide_id,
    patch_set,
    $model_id as model_id,
    part,
    x,
    y,
    predict($model_id, embedding) as probability,
    fingerprint
from slide_features
where embedding is not null
