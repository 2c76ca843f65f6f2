-- slides: the slides whose labels follow from other evidence than they did.
--
-- grain   one row per slide

select distinct slide_id
from annotated_slides as a
full join evidence_before as b using (slide_id, kind)
where a.annotation_hash is distinct from b.annotation_hash
order by slide_id
