-- annotation_groups: what the groups of annotation files mean in a new lake; `histolake groups` changes a lake's own.
--
-- grain   one row per group name, lower case
-- units   label: 1 tumor, 0 normal; is_exclusion: the area is cut out of the tumor

select group_name, label, is_exclusion
from (
    values
    ('tumor', 1, false),
    ('tumour', 1, false),
    ('metastases', 1, false),
    ('metastasis', 1, false),
    ('_0', 1, false),  -- Camelyon16: tumor
    ('_1', 1, false),  -- Camelyon16: tumor, not all of it annotated
    ('_2', null, true),  -- Camelyon16: not tumor, cut out of it
    ('exclusion', null, true),
    ('ignore*', null, true),  -- QuPath
    ('ncrf_positive', 1, false),  -- Camelyon16's _0 and _1
    ('ncrf_negative', 0, true),  -- Camelyon16's _2, and tissue of normal slides
    ('normal', 0, false)
) as meanings (group_name, label, is_exclusion)  -- names the columns -- noqa: AL05
order by group_name
