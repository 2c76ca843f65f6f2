-- probabilities_are_probabilities: every prediction lies between 0 and 1.

select slide_id, patch_set, model_id, x, y, probability
from predictions
where probability is null or not probability between 0 and 1
order by all
