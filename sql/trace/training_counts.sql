-- training_counts: how many slides and patches a model was trained on and chosen with, per split.
--
-- The rows of training_set, without their embeddings. Asked of the lake as it was then: see `at=` of lake.connect().
--
-- grain     one row per split
-- params    $patch_set, $encoder_id, $label_rule, $protocol, $with_reviews   as for training_set

with

judged as (

    select
        f.slide_id,
        case $protocol
            when 'by_slide' then f.split
            when 'patch_random' then patch_split(f.slide_id, f.x, f.y, s.value)
        end as split,
        case when $with_reviews and r.verdict is not null then r.label else l.label end as label
    from slide_features as f
    inner join settings as s on s.name = 'seed'
    left join current_labels as l
        on
            f.bucket = l.bucket
            and f.slide_id = l.slide_id
            and f.patch_set = l.patch_set
            and f.x = l.x
            and f.y = l.y
            and l.label_rule = $label_rule
    left join reviewed_labels as r
        on f.slide_id = r.slide_id and f.patch_set = r.patch_set and f.x = r.x and f.y = r.y
    where
        f.patch_set = $patch_set
        and f.encoder_id = $encoder_id
        and f.embedding is not null

)

select
    split,
    count(distinct slide_id) as slides,
    count(*) as patches,
    sum(label)::bigint as tumor_patches
from judged
where label is not null and split in ('train', 'validation')
group by split
order by split
