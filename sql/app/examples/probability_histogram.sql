-- probability_histogram: how the champion's probabilities are spread, by the label of the patch.
--
-- grain   one row per tenth of probability and label
-- units   probability: lower end of the tenth, 0 to 1; label: 1 tumor, 0 normal

select
    least(floor(p.probability * 10), 9) / 10 as probability,
    p.label,
    count(*) as patches
from scored_patches as p
inner join settings as s on s.name = 'champion' and p.model_id = s.value
group by all
order by probability, label
