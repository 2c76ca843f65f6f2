-- annotation_groups: what the groups of annotation files mean. Add a row for a name of your own.
--
-- grain   one row per group name, lower case
-- units   label: 1 tumor, 0 normal; is_exclusion: the area is cut out of the others

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
    ('normal', 0, false)
) as meanings (group_name, label, is_exclusion)  -- names the columns -- noqa: AL05
order by group_name
