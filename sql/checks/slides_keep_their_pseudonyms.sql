-- slides_keep_their_pseudonyms: in a lake of pseudonyms every slide's path is one, of the lake's own key.

select s.slide_id, s.path
from slides as s
inner join settings as k on k.name = 'pseudonyms'
where not starts_with(s.path, 'pseudonym:' || k.value || '/')
