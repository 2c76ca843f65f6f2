-- model_list: every model of the lake, newest first, with its AUC on the patches of validation slides.
--
-- grain     one row per model; validation_auc is NULL until `histolake evaluate` has measured it

select
    m.model_id,
    m.uri,
    m.head,
    m.encoder_id,
    m.patch_set,
    m.protocol,
    m.calibration,
    m.threshold,
    v.value as validation_auc,
    m.model_id = (select s.value from settings as s where s.name = 'champion') as is_champion,
    m.mlflow_run_id,
    m.trained_at
from models as m
left join metrics as v
    on
        m.model_id = v.model_id
        and m.patch_set = v.patch_set
        and m.protocol = v.protocol
        and v.split = 'validation'
        and v.scope = 'patch'
        and v.name = 'auc'
order by m.trained_at desc, m.model_id
