-- champion_held_slides_out: the champion was trained by slide; one of 'patch_random' has seen patches of every slide.

select m.model_id, m.protocol
from models as m
inner join settings as s on s.name = 'champion' and m.model_id = s.value
where m.protocol <> 'by_slide'
order by m.model_id
