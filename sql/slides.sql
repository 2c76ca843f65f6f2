-- slides: one row per slide file, its properties, resolution and split; unreadable ones with the reason.
--
-- table     slides
-- key       slide_id
-- over      slide_files
-- grain     one row per slide
-- units     lengths: level-0 pixels; mpp_x, mpp_y: microns per level-0 pixel
-- params    $seed                  of the split by hash
--           $train_fraction        share of patients (else slides) that the hash puts into 'train'
--           $validation_fraction   and into 'validation'; the rest is 'test'

with

measured as materialized (  -- once: the properties are used many times below

    select
        *,
        slide_properties(path) as found,
        md5_number_lower($seed || ':' || coalesce(patient_id, slide_id)) / 18446744073709551616 as draw
    from slide_files

),

resolved as (

    select
        *,
        coalesce(mpp, found.mpp_x) as mpp_x,
        coalesce(mpp, found.mpp_y) as mpp_y,
        case
            when found.error is not null then found.error
            when mpp is not null and mpp not between 0.05 and 100
                then format('{}: the manifest gives {} microns per pixel; no scanner has that', path, mpp)
            when coalesce(mpp, found.mpp_x) is null or coalesce(mpp, found.mpp_y) is null
                then
                    path || ': the slide has no plausible resolution; '
                    || 'give its microns per pixel in the column mpp of a manifest CSV'
        end as error
    from measured

)

select
    slide_id,
    path,
    patient_id,
    found.vendor as vendor,
    found.width as width,
    found.height as height,
    found.level_count as level_count,
    mpp_x,
    mpp_y,
    case when mpp is not null then 'manifest' when found.mpp_x is not null then 'slide' end as mpp_source,
    found.objective_power as objective_power,
    found.bounds_x as bounds_x,
    found.bounds_y as bounds_y,
    found.bounds_width as bounds_width,
    found.bounds_height as bounds_height,
    found.bytes as bytes,
    md5(concat_ws(',', content, mpp_x, mpp_y)) as fingerprint,
    coalesce(
        split,
        case
            when draw < $train_fraction then 'train'
            when draw < $train_fraction + $validation_fraction then 'validation'
            else 'test'
        end
    ) as split,
    label,
    if(error is null, 'ok', 'failed') as status,
    error
from resolved
order by slide_id
