-- ledger: which runs wrote the rows behind one prediction.
--
-- grain     one row per stage and identity: the newest entry that wrote
-- params    $slide_id, $patch_set, $part         the patch
--           $encoder_id, $model_id               what scored it
--           $label_rule, $annotation_hash        the label that it has; NULL for none

with

entries as (

    select
        *,
        identity ->> 'patch_set' as patch_set,
        identity ->> 'encoder_id' as encoder_id,
        identity ->> 'model_id' as model_id,
        identity ->> 'label_rule' as label_rule,
        identity ->> 'annotation_hash' as annotation_hash
    from runs
    where status in ('ok', 'empty') and identity <> '{}' or stage = 'slides'

)

select
    stage,
    identity,
    run_id,
    finished_at,
    table_version,
    code_version,
    rows,
    parameters,
    input_versions
from entries
where
    stage in (
        'slides', 'annotations', 'patches', 'features', 'labels', 'predictions', 'models', 'encoders', 'patch_sets'
    )
    and coalesce(slide_id, $slide_id) = $slide_id
    and coalesce(patch_set, $patch_set) = $patch_set
    and coalesce(encoder_id, $encoder_id) = $encoder_id
    and coalesce(model_id, $model_id) = $model_id
    and (label_rule is null or label_rule = $label_rule)
    and (annotation_hash is null or annotation_hash = $annotation_hash)
    and (stage in ('slides', 'annotations', 'patches') or coalesce(part, $part) = $part)
qualify row_number() over (partition by stage, identity order by finished_at desc) = 1
order by stage, identity
