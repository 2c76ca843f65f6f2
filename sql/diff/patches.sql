-- patches: how many patches have another label than they had, on the slides whose evidence changed.
--
-- grain   one row per slide, tiling and rule
-- units   labelled_before, labelled_after, to_tumor, to_normal: patches

select
    slide_id,
    patch_set,
    label_rule,
    count(b.label) as labelled_before,
    count(a.label) as labelled_after,
    count(*) filter (where b.label = 0 and a.label = 1) as to_tumor,
    count(*) filter (where b.label = 1 and a.label = 0) as to_normal
from labels_before as b
full join labels_after as a using (slide_id, patch_set, label_rule, x, y)
group by all
order by all
