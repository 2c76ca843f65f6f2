-- paired_predictions: every patch that two models have scored, on one tiling, with what each says of it.
--
-- Every two models stand here in both orders: keep to one model_a and one model_b.
--
-- grain   one row per patch and ordered pair of models
-- units   x, y, span_x, span_y: level-0 pixels; split: of the slide; probability_a, probability_b, threshold_a,
--         threshold_b: 0 to 1; label: 1 tumor, 0 normal, NULL where annotations do not tell, or the models were
--         trained to find different labels

select
    a.model_id as model_a,
    b.model_id as model_b,
    a.slide_id,
    a.patch_set,
    a.x,
    a.y,
    t.span_x,
    t.span_y,
    t.split,
    a.probability as probability_a,
    b.probability as probability_b,
    m.threshold as threshold_a,
    n.threshold as threshold_b,
    l.label,
    a.bucket
from predictions as a
inner join predictions as b
    on
        a.bucket = b.bucket
        and a.slide_id = b.slide_id
        and a.patch_set = b.patch_set
        and a.x = b.x
        and a.y = b.y
        and a.fingerprint = b.fingerprint
        and a.model_id <> b.model_id
inner join slide_patches as t
    on
        a.bucket = t.bucket
        and a.slide_id = t.slide_id
        and a.patch_set = t.patch_set
        and a.x = t.x
        and a.y = t.y
        and a.fingerprint = t.fingerprint
inner join models as m on a.model_id = m.model_id
inner join models as n on b.model_id = n.model_id
left join current_labels as l
    on
        a.bucket = l.bucket
        and a.slide_id = l.slide_id
        and a.patch_set = l.patch_set
        and a.x = l.x
        and a.y = l.y
        and m.label_rule = l.label_rule
        and n.label_rule = l.label_rule
