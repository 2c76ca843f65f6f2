-- champion: the model whose predictions the app shows.
--
-- grain     one row, or none while no model is trained

select m.model_id, m.encoder_id
from models as m
inner join settings as s on s.name = 'champion' and m.model_id = s.value
