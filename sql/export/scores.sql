-- scores: how likely each slide holds tumor, as a model and a way of scoring say.
--
-- grain     one row per slide
-- units     score: 0 to 1
-- params    $model_id, $patch_set
--           $name     way of scoring, see slide_scores
--           $slides   patterns of slide_id to keep to, e.g. 'tumor_*'; empty for all

select s.slide_id, s.score
from slide_scores as s
inner join slide_tilings as t
    on s.slide_id = t.slide_id and s.patch_set = t.patch_set and s.fingerprint = t.fingerprint
where
    s.model_id = $model_id
    and s.patch_set = $patch_set
    and s.name = $name
    and (len($slides) = 0 or len(list_filter($slides, lambda pattern: s.slide_id glob pattern)) > 0)
order by s.slide_id
