-- scored_slides: the scores of slides as they are now, beside whether the slide holds tumor.
--
-- grain   one row per model, slide of known state and way of scoring
-- units   score: 0 to 1

select
    c.slide_id,
    c.patch_set,
    c.model_id,
    s.split,
    s.is_tumor,
    c.name,
    c.score
from slide_scores as c
inner join slide_tilings as t
    on c.slide_id = t.slide_id and c.patch_set = t.patch_set and c.fingerprint = t.fingerprint
inner join slide_states as s on c.slide_id = s.slide_id
