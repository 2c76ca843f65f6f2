-- champion_was_trained_on_training_slides: no slide that the champion learned from is held out now; if so, train again.

select l.model_id, l.slide_id, l.split
from leaked_slides as l
inner join settings as s on s.name = 'champion' and l.model_id = s.value
order by l.slide_id
