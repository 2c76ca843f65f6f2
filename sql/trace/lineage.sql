-- lineage: all that the prediction of one patch follows from, each thing a struct.
--
-- grain     one row, or none where the model has not scored the patch
-- units     is_trained_on: whether the model was trained on the slide, NULL where an older histolake did not record it;
--           x, y, span_x, span_y, lengths: level-0 pixels; probability, threshold, tissue: 0 to 1
-- params    $slide_id, $patch_set, $x, $y   the patch
--           $model_id                       the model

with

scored as (  -- the slide's patches, highest probability first

    select
        r.part,
        r.x,
        r.y,
        r.probability,
        rank() over (order by r.probability desc) as position,
        count(*) over () as patches
    from predictions as r
    inner join slide_tilings as t
        on r.slide_id = t.slide_id and r.patch_set = t.patch_set and r.fingerprint = t.fingerprint
    where
        r.bucket = bucket_of($slide_id)
        and r.slide_id = $slide_id
        and r.patch_set = $patch_set
        and r.model_id = $model_id

),

described as (

    select * exclude (slopes)
    from models

),

labelled as (

    select l.label, l.label_rule, l.annotation_hash
    from current_labels as l
    inner join models as m on l.label_rule = m.label_rule
    where
        l.bucket = bucket_of($slide_id)
        and l.slide_id = $slide_id
        and l.patch_set = $patch_set
        and l.x = $x
        and l.y = $y
        and m.model_id = $model_id

),

reviewed as (

    select verdict, label, note, reviewer, reviewed_at
    from reviewed_labels
    where slide_id = $slide_id and patch_set = $patch_set and x = $x and y = $y

)

select
    s as slide,
    t as patch_set,
    {
        'slide_id': p.slide_id,
        'patch_set': p.patch_set,
        'part': p.part,
        'x': p.x,
        'y': p.y,
        'span_x': p.span_x,
        'span_y': p.span_y,
        'mpp': p.mpp,
        'tissue': p.tissue,
        'fingerprint': p.fingerprint
    } as patch,
    {'encoder_id': f.encoder_id, 'dims': len(f.embedding), 'fingerprint': f.fingerprint} as feature,
    e as encoder,
    m as model,
    {
        'probability': r.probability,
        'threshold': m.threshold,
        'decision': if(r.probability >= m.threshold, 'tumor', 'normal'),
        'is_trained_on': list_contains(from_json(m.training_slides, '["VARCHAR"]'), $slide_id),
        'position': r.position,
        'patches': r.patches
    } as prediction,
    {'label': l.label, 'label_rule': l.label_rule, 'annotation_hash': l.annotation_hash} as label,
    {
        'verdict': v.verdict,
        'label': v.label,
        'note': v.note,
        'reviewer': v.reviewer,
        'reviewed_at': v.reviewed_at
    } as review
from scored as r
inner join slides as s on s.slide_id = $slide_id
inner join described as m on m.model_id = $model_id
inner join encoders as e on m.encoder_id = e.encoder_id
inner join patch_sets as t on t.patch_set = $patch_set
inner join slide_patches as p
    on
        p.bucket = bucket_of($slide_id)
        and p.slide_id = $slide_id
        and p.patch_set = $patch_set
        and r.x = p.x
        and r.y = p.y
inner join slide_features as f
    on
        f.bucket = bucket_of($slide_id)
        and f.slide_id = $slide_id
        and f.patch_set = $patch_set
        and m.encoder_id = f.encoder_id
        and r.x = f.x
        and r.y = f.y
left join labelled as l on true
left join reviewed as v on true
where r.x = $x and r.y = $y
