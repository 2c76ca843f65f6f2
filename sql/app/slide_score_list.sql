-- slide_score_list: how likely a model finds each slide to hold tumor, beside what is known of it.
--
-- grain     one row per slide and way of scoring, on the tiling that the model was trained on
-- units     score: 0 to 1; label: 'tumor', 'normal', or 'unknown' where neither annotations nor a manifest tell
-- params    $model_id

with

states as (

    select slide_id, if(is_tumor, 'tumor', 'normal') as label
    from slide_states

)

select
    c.slide_id,
    s.split,
    coalesce(k.label, 'unknown') as label,
    c.name,
    c.score
from slide_scores as c
inner join models as m on c.model_id = m.model_id and c.patch_set = m.patch_set
inner join slide_tilings as t
    on c.slide_id = t.slide_id and c.patch_set = t.patch_set and c.fingerprint = t.fingerprint
inner join slides as s on c.slide_id = s.slide_id
left join states as k on c.slide_id = k.slide_id
where c.model_id = $model_id
order by c.name, c.score desc, c.slide_id
