-- predicted_slides: the slides asked for that a model has scored.
--
-- grain     one row per slide
-- params    $model_id
--           $slides   patterns of slide_id to keep to, e.g. 'tumor_*'; empty for all

select distinct slide_id
from predictions
where
    model_id = $model_id
    and (len($slides) = 0 or len(list_filter($slides, lambda pattern: slide_id glob pattern)) > 0)
order by slide_id
