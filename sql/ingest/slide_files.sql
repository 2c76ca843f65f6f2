-- slide_files: the slide files found, with what the manifest says of them.
--
-- grain     one row per slide file
-- params    $split   for slides whose split the manifest does not give; NULL: by hash

with

described as (

    select
        coalesce(m.slide_id, f.stem) as slide_id,
        f.path,
        m.patient_id,
        coalesce(m.split, $split) as split,
        lower(m.label) as label,
        m.mpp,
        coalesce(file_fingerprint(f.path), 'unreadable') as content
    from found as f
    left join manifest as m on f.path = m.path or (m.path is null and f.stem = m.slide_id)

)

select
    *,
    md5(concat_ws('|', path, content, patient_id, split, label, mpp)) as fingerprint
from described
order by slide_id, path
