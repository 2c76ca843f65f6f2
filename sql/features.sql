-- features: the embedding of every patch.
--
-- table     features
-- key       slide_id, patch_set, encoder_id, x, y
-- over      slide_patches
-- counts    patch_units
-- identity  patch_set, encoder_id
-- order     y // 1024, x // 1024, y, x
-- grain     one row per patch; embedding is NULL, and error says why, where it cannot be read
-- units     x, y: level-0 pixels
-- params    $encoder_id   the network, see encoders
--           $input_px     edge of its input, pixels

with

images as (

    select
        *,
        crop(path, x, y, span_x, span_y, $input_px::integer) as image
    from slide_patches

)

select
    slide_id,
    patch_set,
    $encoder_id as encoder_id,
    part,
    x,
    y,
    embed($encoder_id, image.pixels) as embedding,
    image.error as error,
    fingerprint
from images
