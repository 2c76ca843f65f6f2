-- slides_stand_on_one_side: no slide is in two splits, also not under two names: content and resolution tell.

select
    fingerprint,
    list(distinct split order by split) as splits,
    list(slide_id order by slide_id) as slides
from slides
where status = 'ok'
group by fingerprint
having count(distinct split) > 1
order by fingerprint
