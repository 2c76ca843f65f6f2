-- reviews_have_patches: every review is of a patch that the lake has.

select r.slide_id, r.patch_set, r.x, r.y, r.reviewer
from reviews as r
anti join patches as p
    on r.slide_id = p.slide_id and r.patch_set = p.patch_set and r.x = p.x and r.y = p.y
order by all
