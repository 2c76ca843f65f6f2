-- sample_patches: a few patches spread over a slide, with what is known of them.
--
-- grain     one row per patch
-- params    $slide_id
--           $patches   how many at most

with

numbered as (

    select
        *,
        row_number() over (order by patch_set, y, x) - 1 as position,
        count(*) over () as total
    from slide_patches
    where bucket = bucket_of($slide_id) and slide_id = $slide_id

)

select
    n.slide_id,
    n.path,
    n.x,
    n.y,
    n.span_x,
    n.span_y,
    n.mpp_x,
    n.mpp_y,
    any_value(l.label) as label,
    any_value(p.probability) as probability
from numbered as n
left join current_labels as l
    on n.slide_id = l.slide_id and n.patch_set = l.patch_set and n.x = l.x and n.y = l.y
left join current_predictions as p
    on n.slide_id = p.slide_id and n.patch_set = p.patch_set and n.x = p.x and n.y = p.y
where (n.position + 1) * $patches // n.total > n.position * $patches // n.total
group by n.slide_id, n.path, n.x, n.y, n.span_x, n.span_y, n.mpp_x, n.mpp_y, n.position
order by n.position
