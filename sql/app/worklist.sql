-- worklist: every slide, what the champion says of it, or why it says nothing.
--
-- A slide that was scored in several tilings is shown in the one with the most patches.
--
-- grain     one row per slide
-- units     highest, mean_top10: probability of tumor, 0 to 1

with

scored as (

    select
        slide_id,
        patch_set,
        count(*) as patches,
        max(probability) as highest,
        list_avg(max(probability, 10)) as mean_top10
    from current_predictions
    group by slide_id, patch_set
    qualify row_number() over (partition by slide_id order by count(*) desc, patch_set) = 1

),

attempts as (  -- the newest of every unit of work

    select
        slide_id,
        stage,
        identity ->> 'patch_set' as patch_set,
        arg_max(status, finished_at) as status,
        arg_max(error, finished_at) as error,
        max(finished_at) as finished_at
    from runs
    where slide_id is not null
    group by slide_id, stage, identity, part

),

ingested as (

    select slide_id, max(finished_at) as finished_at
    from attempts
    where stage = 'slides'
    group by slide_id

),

champion_tilings as (  -- the tiling that failures matter in; all of them while there is no champion

    select p.patch_set
    from patch_sets as p
    left join settings as s on s.name = 'champion'
    left join models as m on s.value = m.model_id
    where m.model_id is null or (p.patch_px = m.patch_px and p.mpp = m.mpp)

),

outcomes as (

    select
        a.slide_id,
        arg_max(a.stage || ': ' || a.error, a.finished_at) filter (a.status = 'failed') as failure,
        bool_or(a.stage = 'patches' and a.status = 'empty') as is_blank
    from attempts as a
    inner join ingested as i on a.slide_id = i.slide_id and a.finished_at >= i.finished_at
    where
        a.stage <> 'slides'
        and (a.patch_set is null or a.patch_set in (select t.patch_set from champion_tilings as t))
    group by a.slide_id

)

select
    s.slide_id,
    s.split,
    s.label,
    case
        when s.status <> 'ok' or o.failure is not null then 'failed'
        when p.patches is not null then 'scored'
        when o.is_blank then 'no tissue'
        else 'not scored'
    end as status,
    p.patches,
    p.highest,
    p.mean_top10,
    coalesce(s.error, o.failure) as reason,
    p.patch_set
from slides as s
left join scored as p on s.slide_id = p.slide_id
left join outcomes as o on s.slide_id = o.slide_id
order by p.mean_top10 desc nulls last, s.slide_id
