-- leaked_slides: slides that a model was trained on and that are held out now: what is measured of them flatters.
--
-- It comes of slides that changed sides after the training; the next training mends it. Models of the protocol
-- 'patch_random' hold no slide out, and are left out.
--
-- grain   one row per model and slide

with

trained as (

    select model_id, unnest(from_json(training_slides, '["VARCHAR"]')) as slide_id
    from models
    where protocol = 'by_slide'

)

select t.model_id, s.slide_id, s.split
from trained as t
inner join slides as s on t.slide_id = s.slide_id
where s.split <> 'train'
order by t.model_id, s.slide_id
