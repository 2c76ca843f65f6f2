-- unreadable_patches_say_why: a patch has an embedding, or an error that says why it has none.

select slide_id, patch_set, encoder_id, x, y, error
from features
where (embedding is null) = (error is null)
order by all
