-- model_list: every model of the lake, the champion first, then the newest, with what was measured of it.
--
-- grain     one row per model; numbers are NULL until `histolake evaluate` has measured them
-- units     AUCs and FROC with their 95 % intervals: 0 to 1, patch AUCs of labelled patches, slide_auc of the mean of
--           a slide's ten highest probabilities, on test slides; leaked_slides: trained on, and held out now

with

numbers as (

    select
        t.model_id,
        first(t) filter (t.scope = 'patch' and t.split = 'validation' and t.name = 'auc') as validation_auc,
        first(t) filter (t.scope = 'patch' and t.split = 'test' and t.name = 'auc') as test_auc,
        first(t) filter (t.scope = 'slide' and t.split = 'test' and t.name = 'auc_mean_top10') as slide_auc,
        first(t) filter (t.scope = 'lesion' and t.split = 'test' and t.name = 'froc') as froc
    from metrics as t
    semi join models as m on t.model_id = m.model_id and t.patch_set = m.patch_set and t.protocol = m.protocol
    group by t.model_id

),

leaks as (

    select model_id, count(*) as slides
    from leaked_slides
    group by model_id

)

select
    m.model_id,
    m.model_id = coalesce((select s.value from settings as s where s.name = 'champion'), '') as is_champion,
    m.uri,
    m.head,
    m.encoder_id,
    m.patch_set,
    m.label_rule,
    m.protocol,
    m.calibration,
    m.threshold,
    n.validation_auc.value as validation_auc,
    n.validation_auc.low as validation_auc_low,
    n.validation_auc.high as validation_auc_high,
    n.test_auc.value as test_auc,
    n.test_auc.low as test_auc_low,
    n.test_auc.high as test_auc_high,
    n.slide_auc.value as slide_auc,
    n.slide_auc.low as slide_auc_low,
    n.slide_auc.high as slide_auc_high,
    n.froc.value as froc,
    n.froc.low as froc_low,
    n.froc.high as froc_high,
    m.mlflow_run_id,
    m.trained_at,
    m.code_version,
    coalesce(l.slides, 0) as leaked_slides
from models as m
left join numbers as n on m.model_id = n.model_id
left join leaks as l on m.model_id = l.model_id
order by is_champion desc, m.trained_at desc, m.model_id
