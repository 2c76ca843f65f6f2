-- pseudonyms: what a lake with pseudonyms holds in the place of names, slide by slide.
--
-- grain   one row per slide
-- params  $wanted   pseudonyms of slides, patients or paths; an empty list for all

with

asked as (

    select unnest(cast($wanted as varchar[])) as name

)

select slide_id, patient_id, path
from slides
where
    (select count(*) from asked) = 0
    or slide_id in (select name from asked)
    or patient_id in (select name from asked)
    or path in (select name from asked)
order by slide_id
