-- pseudonyms: what a lake with pseudonyms holds in the place of names, slide by slide.
--
-- grain   one row per slide
-- params  $wanted   pseudonyms of slides, patients or paths; an empty list for all

select slide_id, patient_id, path
from slides
where
    len($wanted::varchar[]) = 0
    or slide_id in $wanted::varchar[]
    or patient_id in $wanted::varchar[]
    or path in $wanted::varchar[]
order by slide_id
