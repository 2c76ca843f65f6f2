-- scored_patches: every prediction beside the label that its model was trained to find, on the model's own terms.
--
-- A model of the protocol 'patch_random' was trained on patches of every slide: its split is that of the patch.
--
-- grain   one row per model and patch, where annotations tell the label
-- units   x, y: level-0 pixels; label: 1 tumor, 0 normal; probability of tumor: 0 to 1;
--         threshold: probability from which on the model calls a patch tumor

select
    p.slide_id,
    p.patch_set,
    p.model_id,
    p.x,
    p.y,
    case
        when m.protocol = 'patch_random'
            then patch_split(p.slide_id, p.x, p.y, (select s.value from settings as s where s.name = 'seed'))
        else t.split
    end as split,
    l.label_rule,
    l.label,
    p.probability,
    m.threshold,
    p.bucket
from predictions as p
inner join models as m on p.model_id = m.model_id
inner join slide_tilings as t
    on p.slide_id = t.slide_id and p.patch_set = t.patch_set and p.fingerprint = t.fingerprint
inner join current_labels as l
    on
        p.bucket = l.bucket
        and p.slide_id = l.slide_id
        and p.patch_set = l.patch_set
        and p.x = l.x
        and p.y = l.y
        and m.label_rule = l.label_rule
