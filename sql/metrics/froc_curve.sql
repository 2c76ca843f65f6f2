-- froc_curve: how many lesions are found at the price of how many false positives, at every threshold that matters.
--
-- The thresholds are the distinct probabilities of what counts; a detection at the threshold counts. Above the highest
-- nothing is found. NCRF's variant leaves some slides out.
--
-- grain     one row per split, variant ('official' or 'ncrf') and threshold
-- units     threshold: probability, 0 to 1, NULL above all; false_positives: per evaluated slide; sensitivity: 0 to 1,
--           NULL where there is no lesion
-- params    $left_out   slides that NCRF's variant leaves out, lower case

with

counted as (

    select *, 'official' as variant
    from findings

    union all

    select *, 'ncrf' as variant
    from findings
    where lower(slide_id) not in (select unnest($left_out))

),

totals as (

    select
        split,
        variant,
        count(*) filter (kind = 'slide') as slides,
        count(*) filter (kind = 'lesion') as lesions
    from counted
    group by split, variant

),

thresholds as (

    select
        split,
        variant,
        probability as threshold,
        count(*) filter (kind = 'lesion') as found,
        count(*) filter (kind = 'false positive') as mistaken
    from counted
    where kind in ('lesion', 'false positive') and probability is not null
    group by split, variant, probability

    union all

    select split, variant, null as threshold, 0 as found, 0 as mistaken
    from totals

),

cumulated as (

    select
        split,
        variant,
        threshold,
        sum(found) over from_the_top as found,
        sum(mistaken) over from_the_top as mistaken
    from thresholds
    window from_the_top as (partition by split, variant order by threshold desc nulls first)

)

select
    c.split,
    c.variant,
    c.threshold,
    c.mistaken / t.slides as false_positives,
    c.found / nullif(t.lesions, 0) as sensitivity
from cumulated as c
inner join totals as t on c.split = t.split and c.variant = t.variant
order by c.split, c.variant, c.threshold desc nulls first
