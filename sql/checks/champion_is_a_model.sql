-- champion_is_a_model: the champion that the settings name is in the table models.

select s.value as model_id
from settings as s
anti join models as m on s.value = m.model_id
where s.name = 'champion'
order by all
