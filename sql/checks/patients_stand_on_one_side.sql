-- patients_stand_on_one_side: no patient has slides in two splits.

select patient_id, list(distinct split order by split) as splits, list(slide_id order by slide_id) as slides
from slides
where patient_id is not null
group by patient_id
having count(distinct split) > 1
order by patient_id
