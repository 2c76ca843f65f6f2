-- labelable_patches: the patches of annotated slides, beside the hash of the evidence.
--
-- grain   one row per patch and kind of evidence: 'area' or 'point'

select p.*, a.kind, a.annotation_hash
from slide_patches as p
inner join annotated_slides as a on p.slide_id = a.slide_id
