-- training_patches: the labelled, readable patches of the sides that training and validation use, by every protocol.
--
-- protocol       'by_slide': a patch stands on its slide's side; 'patch_random': sides are drawn patch by patch with
--                the lake's seed, from all slides, those for test too
-- with_reviews   whether reviewers' verdicts replace labels, and give one where annotations give none; patches of
--                which a reviewer was unsure are then left out
--
-- grain   one row per patch, encoder, label_rule, protocol and with_reviews; label_rule is NULL where only a
--         reviewer labelled the patch
-- units   x, y: level-0 pixels; label: 1 tumor, 0 normal

with

judged as (

    select
        f.slide_id,
        f.patch_set,
        f.encoder_id,
        l.label_rule,
        p.protocol,
        w.with_reviews,
        f.x,
        f.y,
        case p.protocol when 'by_slide' then f.split else patch_split(f.slide_id, f.x, f.y, s.value) end as split,
        case when r.verdict is null then l.label else r.label end as label,
        f.embedding
    from slide_features as f
    inner join settings as s on s.name = 'seed'
    cross join (values ('by_slide'), ('patch_random')) as p (protocol)
    cross join (values (false), (true)) as w (with_reviews)
    left join current_labels as l
        on
            f.bucket = l.bucket
            and f.slide_id = l.slide_id
            and f.patch_set = l.patch_set
            and f.x = l.x
            and f.y = l.y
    left join reviewed_labels as r
        on
            w.with_reviews
            and f.slide_id = r.slide_id
            and f.patch_set = r.patch_set
            and f.x = r.x
            and f.y = r.y
    where f.embedding is not null

)

select slide_id, patch_set, encoder_id, label_rule, protocol, with_reviews, x, y, split, label, embedding
from judged
where label is not null and split in ('train', 'validation')
