-- champion: the model whose predictions the app shows.
--
-- grain     one row, or none while no model is trained

select
    m.model_id,
    m.encoder_id,
    m.patch_set,
    m.patch_px,
    m.mpp,
    m.label_rule,
    m.threshold,
    m.uri,
    m.trained_at
from models as m
inner join settings as s on s.name = 'champion' and m.model_id = s.value
