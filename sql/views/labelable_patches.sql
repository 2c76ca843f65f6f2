-- labelable_patches: the patches of annotated slides, beside the hash of all that their labels follow from.
--
-- grain   one row per patch and kind of evidence: 'area' or 'point'

select
    p.*,
    a.kind,
    md5(a.annotation_hash || p.fingerprint) as annotation_hash
from slide_patches as p
inner join annotated_slides as a on p.slide_id = a.slide_id
