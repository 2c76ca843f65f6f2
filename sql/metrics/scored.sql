-- scored: the patches behind the numbers of patch.sql, in the order in which thresholds meet them.
--
-- grain     one row per labelled patch with a prediction
-- params    $model_id, $patch_set   whose predictions, where

select split, slide_id, label, probability, threshold
from scored_patches
where model_id = $model_id and patch_set = $patch_set
order by split, probability desc, slide_id, label
