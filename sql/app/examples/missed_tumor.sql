-- missed_tumor: labelled tumor to which the champion gives the lowest probabilities.
--
-- grain   one row per patch
-- units   x, y: left and top edge, level-0 pixels; probability, threshold: 0 to 1

select p.slide_id, p.x, p.y, p.split, p.probability, p.threshold
from scored_patches as p
inner join settings as s on s.name = 'champion' and p.model_id = s.value
where p.label = 1 and p.probability < p.threshold
order by p.probability, p.slide_id, p.y, p.x
limit 100
