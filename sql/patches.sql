-- patches: where to look on every slide: a regular grid over its tissue, or given centres.
--
-- table     patches
-- key       slide_id, patch_set, x, y
-- over      slide_tilings
-- identity  patch_set
-- grain     one row per patch inside the slide with enough tissue
-- units     x, y: top-left corner, span_x, span_y: size, level-0 pixels; mpp: microns per pixel as read

with

sized as (

    select
        *,
        patch_px * mpp / mpp_x as exact_x,
        patch_px * mpp / mpp_y as exact_y
    from slide_tilings

),

snapped as (  -- resolutions are given in few digits: a span within 0.05 px of a whole number is that

    select
        *,
        if(abs(exact_x - round(exact_x)) < 0.05, round(exact_x), exact_x) as span_x,
        if(abs(exact_y - round(exact_y)) < 0.05, round(exact_y), exact_y) as span_y
    from sized

),

usable as (

    select *
    from snapped
    where
        case
            when mpp < 0.95 * least(mpp_x, mpp_y) and not allow_upsampling
                then error(
                    format(
                        '{}: {} microns per pixel is finer than the slide''s own {:.3f}; '
                        || 'ask for a larger --mpp, or accept blurred patches with --allow-upsampling',
                        path, mpp, least(mpp_x, mpp_y)
                    )
                )
            when span_x > width or span_y > height
                then error(
                    format(
                        '{}: a patch of {:.0f} x {:.0f} px is larger than the slide, {} x {} px; '
                        || 'ask for a smaller --patch-px or --mpp',
                        path, span_x, span_y, width, height
                    )
                )
            else true
        end

),

grid as (

    select
        u.*,
        round(u.left_edge + c.i * u.span_x * u.stride_px / u.patch_px)::bigint as x,
        round(u.top_edge + r.i * u.span_y * u.stride_px / u.patch_px)::bigint as y
    from usable as u,
        unnest(range(0, 1 + ceil((u.right_edge - u.left_edge) / (u.span_x * u.stride_px / u.patch_px))::bigint))
            as c (i),
        unnest(range(0, 1 + ceil((u.bottom_edge - u.top_edge) / (u.span_y * u.stride_px / u.patch_px))::bigint))
            as r (i)
    where u.tiling = 'grid'

),

centres as (

    select
        u.*,
        round(point(a.geometry).x - u.span_x / 2)::bigint as x,
        round(point(a.geometry).y - u.span_y / 2)::bigint as y
    from usable as u
    inner join annotations as a on u.slide_id = a.slide_id and a.format = 'ncrf_csv'
    where u.tiling = 'centres'

),

inside as (  -- the slide, to half a pixel; and, by their centre, the segment of interest

    select distinct *
    from (
        select * from grid
        union all
        select * from centres
    ) as squares
    where
        x >= 0
        and y >= 0
        and x + span_x <= width + 0.5
        and y + span_y <= height + 0.5
        and (
            region_x is null
            or (
                x + span_x / 2 >= region_x
                and x + span_x / 2 < region_x + region_width
                and y + span_y / 2 >= region_y
                and y + span_y / 2 < region_y + region_height
            )
        )

),

measured as materialized (  -- once: the filter below would measure again

    select
        *,
        tissue_fraction(path, x, y, span_x, span_y, tissue_od) as tissue
    from inside

)

select
    slide_id,
    patch_set,
    (
        (row_number() over (partition by slide_id, patch_set order by y // 1024, x // 1024, y, x) - 1) // 8192
    )::integer as part,
    x,
    y,
    span_x,
    span_y,
    mpp,
    tissue,
    fingerprint
from measured
where tissue >= coalesce(min_tissue, 0)
order by slide_id, patch_set, part, y // 1024, x // 1024, y, x
