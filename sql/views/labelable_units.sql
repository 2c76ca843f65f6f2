-- labelable_units: how many patches each part of an annotated slide has, as the ledger counted them; see patch_units.
--
-- grain   one row per slide, tiling, part and kind of evidence: 'area' or 'point'

select
    p.slide_id,
    p.patch_set,
    p.fingerprint,
    p.part,
    p.rows,
    a.kind,
    md5(a.annotation_hash || p.fingerprint) as annotation_hash
from patch_units as p
inner join annotated_slides as a on p.slide_id = a.slide_id
