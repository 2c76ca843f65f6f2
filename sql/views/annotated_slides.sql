-- annotated_slides: what each slide's labels follow from, and a hash that changes when it does.
--
-- Of annotation files the hash covers the content, and what the groups that occur in it mean.
-- A file without a shape tells that nothing was found: its slide is annotated too. A slide that is
-- known to be normal needs no annotation.
--
-- grain   one row per slide and kind of evidence: 'area' or 'point'

with

latest as (  -- the newest load of every annotation file that succeeded

    select
        slide_id,
        identity ->> 'source' as source,
        arg_max(fingerprint, finished_at) as fingerprint,
        arg_max(identity ->> 'kind', finished_at) as kind
    from runs
    where stage = 'annotations' and slide_id is not null and status in ('ok', 'empty')
    group by all

),

meanings as (

    select
        slide_id,
        source,
        md5(string_agg(said, ',' order by said)) as meaning  -- in order: else one state had several hashes
    from (
        select distinct slide_id, source, concat_ws('|', lower(group_name), label, is_exclusion) as said
        from annotations
        where group_name is not null
    ) as sayings
    group by all

),

evidence as (

    select
        l.slide_id,
        l.kind,
        md5(string_agg(concat_ws('|', l.fingerprint, m.meaning), ',' order by l.source)) as annotation_hash
    from latest as l
    left join meanings as m on l.slide_id = m.slide_id and l.source = m.source
    group by all

    union all

    select slide_id, 'area' as kind, 'normal' as annotation_hash
    from slides
    where
        lower(label) = 'normal'
        and slide_id not in (select slide_id from latest where kind = 'area')

)

select slide_id, kind, annotation_hash
from evidence
order by slide_id, kind
