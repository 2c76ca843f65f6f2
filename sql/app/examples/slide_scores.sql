-- slide_scores: every way to score a slide, beside whether the slide holds tumor.
--
-- grain   one row per model, slide and way of scoring
-- units   score: 0 to 1, higher for tumor

select model_id, name, slide_id, split, is_tumor, round(score, 4) as score
from scored_slides
order by model_id, name, score desc, slide_id
