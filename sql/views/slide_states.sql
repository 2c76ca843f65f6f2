-- slide_states: which slides are known to hold tumor, or none.
--
-- The manifest's word counts; without it, what is drawn: tumor, or a file of annotations without any.
--
-- grain   one row per usable slide of known state

with

known as (

    select
        s.slide_id,
        s.split,
        case
            when lower(s.label) in ('tumor', 'normal') then lower(s.label) = 'tumor'
            when s.slide_id in (select a.slide_id from annotations as a where a.label = 1 and not a.is_exclusion)
                then true
            when s.slide_id in (select a.slide_id from annotated_slides as a where a.kind = 'area') then false
        end as is_tumor
    from slides as s
    where s.status = 'ok'

)

select slide_id, split, is_tumor
from known
where is_tumor is not null
