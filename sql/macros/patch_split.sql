-- patch_split: the side that a patch stands on when patches, not slides, are drawn at random: protocol 'patch_random'.
--
-- Patches of one slide stand on all three sides, so what is measured by it flatters: see docs/evaluation.md. Any
-- engine can compute it: the lower 64 bits of md5('seed:slide_id:x:y'), read little-endian, as a fraction of 2^64.
-- The shares are those of the split by slide. x, y: left and top edge, level-0 pixels.

create or replace macro patch_split(slide_id, x, y, seed) as (
    case
        when md5_number_lower(concat_ws(':', seed, slide_id, x::bigint, y::bigint)) / 18446744073709551616 < 0.6
            then 'train'
        when md5_number_lower(concat_ws(':', seed, slide_id, x::bigint, y::bigint)) / 18446744073709551616 < 0.8
            then 'validation'
        else 'test'
    end
);
