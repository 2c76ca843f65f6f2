-- patch_images: the crops themselves, for export and review.
--
-- table     patch_images
-- key       slide_id, patch_set, image_format, x, y
-- over      slide_patches
-- counts    patch_units
-- identity  patch_set, image_format
-- order     y // 1024, x // 1024, y, x
-- optional
-- grain     one row per patch; image is NULL, and error says why, where it cannot be read
-- units     x, y: level-0 pixels; image: patch_px x patch_px
-- params    $image_format   'jpeg' or 'png'

with

images as (

    select
        *,
        crop(path, x, y, span_x, span_y, patch_px) as image
    from slide_patches

)

select
    slide_id,
    patch_set,
    part,
    $image_format as image_format,
    x,
    y,
    encode_image(image.pixels, patch_px, $image_format) as image,
    image.error as error,
    fingerprint
from images
