-- hottest_patches: the patches of the whole lake that the champion finds most suspicious.
--
-- grain   one row per patch
-- units   x, y: left and top edge, level-0 pixels; probability of tumor, tissue: 0 to 1

select slide_id, x, y, probability, tissue, split
from current_predictions
order by probability desc, slide_id, y, x
limit 100
