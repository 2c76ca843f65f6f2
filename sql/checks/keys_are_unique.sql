-- keys_are_unique: no table holds two rows of one key.

select table_name, key, count(*) as copies
from (
    select 'slides' as table_name, slide_id as key
    from slides
    union all
    select 'annotations' as table_name, concat_ws(' ', slide_id, source, annotation_id) as key
    from annotations
    union all
    select 'patches' as table_name, concat_ws(' ', slide_id, patch_set, x, y) as key
    from patches
    union all
    select 'labels' as table_name, concat_ws(' ', slide_id, patch_set, label_rule, annotation_hash, x, y) as key
    from labels
    union all
    select 'features' as table_name, concat_ws(' ', slide_id, patch_set, encoder_id, x, y) as key
    from features
    union all
    select 'predictions' as table_name, concat_ws(' ', slide_id, patch_set, model_id, x, y) as key
    from predictions
    union all
    select
        'detections' as table_name,
        concat_ws(' ', slide_id, patch_set, model_id, radius_um, smoothing_um, min_probability, x, y) as key
    from detections
    union all
    select 'slide_scores' as table_name, concat_ws(' ', slide_id, patch_set, model_id, name) as key
    from slide_scores
    union all
    select 'reviews' as table_name, concat_ws(' ', slide_id, patch_set, x, y, reviewer, reviewed_at) as key
    from reviews
    union all
    select 'metrics' as table_name, concat_ws(' ', model_id, patch_set, protocol, split, scope, name) as key
    from metrics
) as keys
group by table_name, key
having count(*) > 1
order by table_name, key
