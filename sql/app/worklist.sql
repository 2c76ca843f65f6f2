-- worklist: every slide, what the champion says of it, or why it says nothing and what to type.
--
-- What the lake remembers is not computed again: the ledger counts patches, scored patches and hotspots, and
-- slide_scores has the highest probability and the score of a heatmap that has not changed since. Only of other
-- slides predictions are read.
--
-- A slide that was scored in several tilings is shown in the one with the most scored patches. Scored in part: more
-- predictions are to come. Tissue is summed over the patches of the tiling, each of which stands for its cell of the
-- grid; tissue between them, in patches below the tiling's min_tissue, and outside its region is not counted.
--
-- grain     one row per slide, the highest score first
-- units     is_readable: whether the file can be opened; tissue_mm2: square millimetres, NULL where the tiling is no
--           grid; patches: scored, a count; score: mean of the ten highest probabilities, the slide score mean_top10;
--           highest, score: 0 to 1; hotspots: detections with the parameters below, NULL until `histolake evaluate`
--           has looked for them; last_run: UTC; remedy: what to do, commands between backticks
-- params    $radius_um, $smoothing_um, $min_probability   which detections, see detections
--           $top                                          how many patches the score is the mean of

with

champion as (

    select m.model_id, m.encoder_id, m.patch_px, m.mpp
    from models as m
    inner join settings as s on s.name = 'champion' and m.model_id = s.value

),

tilings as (  -- those that the champion can score; all of them while there is no champion

    select t.slide_id, t.patch_set, t.fingerprint, t.tissue_od, (t.stride_px * t.mpp / 1000) ** 2 as cell_mm2
    from slide_tilings as t
    left join champion as c on true
    where c.model_id is null or (t.patch_px = c.patch_px and t.mpp = c.mpp)

),

ledger as materialized (

    select
        slide_id,
        stage,
        identity,
        identity ->> 'patch_set' as patch_set,
        identity ->> 'encoder_id' as encoder_id,
        identity ->> 'model_id' as model_id,
        part,
        fingerprint,
        status,
        rows,
        errors,
        error,
        finished_at,
        parameters
    from runs
    where slide_id is not null or stage = 'slide_scores'

),

attempts as (  -- the newest of every unit of work

    select *
    from ledger
    where slide_id is not null
    qualify row_number() over (partition by slide_id, stage, identity, part order by finished_at desc) = 1

),

ingested as (

    select slide_id, max(finished_at) as finished_at
    from attempts
    where stage = 'slides'
    group by slide_id

),

counted as (  -- rows that the tables hold of the slide as it is now: a result of another fingerprint replaces all

    select
        a.slide_id,
        a.patch_set,
        sum(a.rows) filter (a.stage = 'patches') as patches,
        sum(a.rows) filter (a.stage = 'features') as embedded,
        sum(a.rows - a.errors) filter (a.stage = 'features') as readable,
        sum(a.rows) filter (a.stage = 'predictions') as scored,
        max(a.finished_at) filter (a.stage = 'predictions') as scored_at
    from attempts as a
    inner join tilings as t
        on a.slide_id = t.slide_id and a.patch_set = t.patch_set and a.fingerprint = t.fingerprint
    left join champion as c on true
    where
        a.stage in ('patches', 'features', 'predictions')
        and (a.encoder_id is null or a.encoder_id = c.encoder_id)
        and (a.model_id is null or a.model_id = c.model_id)
        and not exists (
            select 1
            from ledger as o
            where
                o.slide_id = a.slide_id
                and o.stage = a.stage
                and o.identity = a.identity
                and o.fingerprint <> a.fingerprint
                and o.status <> 'failed'
                and o.finished_at > a.finished_at
        )
    group by a.slide_id, a.patch_set

),

shown as (

    select c.*, t.fingerprint, t.cell_mm2
    from counted as c
    inner join tilings as t on c.slide_id = t.slide_id and c.patch_set = t.patch_set
    qualify
        row_number() over (partition by c.slide_id order by c.scored desc nulls last, c.patches desc, c.patch_set) = 1

),

measured as (  -- when slide_scores was looked through last

    select parameters ->> 'model_id' as model_id, parameters ->> 'patch_set' as patch_set, max(finished_at) as at
    from ledger
    where stage = 'slide_scores'
    group by all

),

remembered as (

    select
        s.slide_id,
        max(r.score) filter (r.name = 'max') as highest,
        max(r.score) filter (r.name = 'mean_top' || $top) as score
    from shown as s
    inner join champion as c on true
    inner join slide_scores as r
        on
            s.slide_id = r.slide_id
            and s.patch_set = r.patch_set
            and s.fingerprint = r.fingerprint
            and c.model_id = r.model_id
    inner join measured as m on c.model_id = m.model_id and s.patch_set = m.patch_set and s.scored_at < m.at
    group by s.slide_id

),

missing as (

    select s.slide_id, s.patch_set
    from shown as s
    anti join remembered as r on s.slide_id = r.slide_id and r.score is not null
    where s.scored > 0

),

computed as (  -- of a slide, tiling and model the table holds one fingerprint: that of `shown`

    select
        p.slide_id,
        max(p.probability) as highest,
        round(list_avg(max(p.probability, $top)), 12) as score
    from predictions as p
    semi join missing as m on p.slide_id = m.slide_id and p.patch_set = m.patch_set
    where p.model_id = (select c.model_id from champion as c)
    group by p.slide_id

),

scores as (

    select slide_id, highest, score from remembered
    where score is not null

    union all

    select slide_id, highest, score from computed

),

tissue as (  -- of a slide and tiling the table holds one fingerprint, too; it is summed before it is joined

    select slide_id, patch_set, sum(tissue) as patches_of_tissue
    from patches
    group by slide_id, patch_set

),

peaks as (

    select a.slide_id, a.rows as hotspots
    from attempts as a
    inner join shown as s
        on
            a.slide_id = s.slide_id
            and a.patch_set = s.patch_set
            and a.fingerprint = md5(s.fingerprint || ':' || s.scored)
    inner join champion as c on a.model_id = c.model_id
    where
        a.stage = 'detections'
        and a.status <> 'failed'
        and (a.identity ->> 'radius_um')::double = $radius_um
        and (a.identity ->> 'smoothing_um')::double = $smoothing_um
        and (a.identity ->> 'min_probability')::double = $min_probability

),

outcomes as (  -- of the slide's file as it is now, for the champion

    select
        a.slide_id,
        arg_max({stage: a.stage, error: a.error, identity: a.identity}, a.finished_at)
        filter (a.status = 'failed') as failure,
        min(t.tissue_od) filter (a.stage = 'patches' and a.status = 'empty') as blank_at
    from attempts as a
    inner join ingested as i on a.slide_id = i.slide_id and a.finished_at >= i.finished_at
    left join tilings as t on a.slide_id = t.slide_id and a.patch_set = t.patch_set
    left join champion as c on true
    where
        a.stage <> 'slides'
        and (a.patch_set is null or t.patch_set is not null)
        and (a.encoder_id is null or c.encoder_id is null or a.encoder_id = c.encoder_id)
        and (a.model_id is null or a.model_id = c.model_id)
    group by a.slide_id

),

last_runs as (

    select slide_id, max(finished_at) as last_run
    from attempts
    group by slide_id

),

listed as (

    select
        s.*,
        d.patch_set,
        d.cell_mm2,
        d.patches,
        d.embedded,
        d.readable,
        d.scored,
        o.failure,
        o.blank_at,
        case
            when s.status <> 'ok' or o.failure is not null then 'failed'
            when d.scored > 0 and (d.embedded < d.patches or d.scored < d.readable) then 'scored in part'
            when d.scored > 0 then 'scored'
            when o.blank_at is not null then 'no tissue'
            else 'not scored'
        end as state,
        '''' || replace(s.slide_id, '''', '''\''''') || '''' as typed,
        '''' || replace(s.path, '''', '''\''''') || '''' as typed_path
    from slides as s
    left join shown as d on s.slide_id = d.slide_id
    left join outcomes as o on s.slide_id = o.slide_id

)

select
    l.slide_id,
    l.split,
    l.label,
    l.state as status,
    l.status = 'ok' as is_readable,
    t.patches_of_tissue * l.cell_mm2 as tissue_mm2,
    if(l.scored > 0, l.scored, null) as patches,
    c.score,
    c.highest,
    p.hotspots,
    r.last_run at time zone 'UTC' as last_run,
    coalesce(l.error, l.failure.stage || ': ' || l.failure.error) as reason,
    case
        when l.status <> 'ok' then 'Mend the file, then `histolake ingest ' || l.typed_path || ' --retry-failed`'
        when l.failure.stage = 'annotations' then 'Mend the annotation file, then `histolake ingest` it again'
        when l.failure.stage = 'detections'
            then
                '`histolake evaluate'
                || if(
                    (l.failure.identity ->> 'radius_um')::double = $radius_um
                    and (l.failure.identity ->> 'smoothing_um')::double = $smoothing_um,
                    '',
                    ' --detection-radius-um ' || (l.failure.identity ->> 'radius_um')
                    || ' --smoothing-um ' || (l.failure.identity ->> 'smoothing_um')
                )
                || ' --retry-failed`'
        when l.failure.stage = 'predictions' then '`histolake predict --slide ' || l.typed || ' --retry-failed`'
        when l.failure is not null then '`histolake run --slide ' || l.typed || ' --retry-failed`'
        when l.state = 'scored' then null
        when l.state = 'no tissue'
            then
                'Look at the slide; if tissue is there: `histolake run --slide '
                || l.typed || ' --tissue-od ' || l.blank_at / 2 || '`'
        when coalesce(l.embedded < l.patches, true) then '`histolake run --slide ' || l.typed || '`'
        when (select count(*) from champion) = 0 then '`histolake train`'
        else '`histolake predict --slide ' || l.typed || '`'
    end as remedy,
    l.patch_set
from listed as l
left join scores as c on l.slide_id = c.slide_id
left join tissue as t on l.slide_id = t.slide_id and l.patch_set = t.patch_set
left join peaks as p on l.slide_id = p.slide_id
left join last_runs as r on l.slide_id = r.slide_id
order by c.score desc nulls last, l.slide_id
