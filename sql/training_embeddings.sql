-- training_embeddings: the embeddings of the training set, in any order.
--
-- A selection, not a stage: `histolake train` reads it, a batch at a time. Sorting embeddings would hold them twice.
--
-- grain     one row per patch of chosen_patches, which training_set selected
-- params    $patch_set, $encoder_id   whose features they are

select
    c.position,
    f.embedding
from slide_features as f
inner join chosen_patches as c on f.slide_id = c.slide_id and f.x = c.x and f.y = c.y
where f.patch_set = $patch_set and f.encoder_id = $encoder_id
