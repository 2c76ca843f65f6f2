-- froc: Camelyon16's lesion task, per split, in numbers.
--
-- sensitivity_at_F is the highest sensitivity with at most F false positives a slide, and froc the mean of the six that
-- the challenge names. NCRF's froc_ncrf interpolates linearly between the points of the curve to either side of F, and
-- leaves some slides out. Both are NULL where a split has no lesion. lesions are without isolated tumor cells (itcs).
-- Twelve digits are kept.
--
-- grain     one row per split and name

with

rates as (select unnest([0.25, 0.5, 1, 2, 4, 8]::double[]) as rate),

points as (  -- of the curve, to either side of each rate: false positives and sensitivity

    select
        c.split,
        c.variant,
        r.rate,
        max(c.sensitivity) filter (c.false_positives <= r.rate) as reached,
        max(c.false_positives) filter (c.false_positives <= r.rate) as before,
        min(c.false_positives) filter (c.false_positives > r.rate) as after,
        min(c.sensitivity) filter (c.false_positives > r.rate) as reached_after
    from froc_curve as c
    cross join rates as r
    group by c.split, c.variant, r.rate

),

interpolated as (

    select
        split,
        reached + coalesce((reached_after - reached) * (rate - before) / (after - before), 0) as sensitivity
    from points
    where variant = 'ncrf'

),

counts as (

    select
        split,
        count(*) filter (kind = 'slide')::double as slides,
        count(*) filter (kind = 'lesion')::double as lesions,
        count(probability) filter (kind = 'lesion')::double as lesions_found,
        count(*) filter (kind = 'itc')::double as itcs,
        count(*) filter (kind = 'false positive')::double as false_positives
    from findings
    group by split

),

long as (

    select split, format('sensitivity_at_{:g}', rate) as name, reached as value
    from points
    where variant = 'official'

    union all

    select split, 'froc' as name, avg(reached) as value
    from points
    where variant = 'official'
    group by split

    union all

    select split, 'froc_ncrf' as name, avg(sensitivity) as value
    from interpolated
    group by split

    union all

    select split, name, value
    from counts unpivot (value for name in (columns(* exclude split)))

)

select split, name, round(value, 12) as value
from long
order by split, name
