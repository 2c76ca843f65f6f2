-- coordinates: NCRF's lists of patch centres, tumor 1 and normal 0.
--
-- grain     one row per centre
-- units     x, y: the patch's centre, level-0 pixels
-- params    $tumor, $normal   CSV files without header, rows slide,x,y; an empty list for none

select slide_id, source, x, y, label
from (
    select slide_id, parse_filename(filename) as source, x, y, 1 as label
    from
        read_csv(
            $tumor, auto_detect = false, compression = 'none', delim = ',', header = false, filename = true,
            columns = {'slide_id': 'VARCHAR', 'x': 'DOUBLE', 'y': 'DOUBLE'}
        )
    union all
    select slide_id, parse_filename(filename) as source, x, y, 0 as label
    from
        read_csv(
            $normal, auto_detect = false, compression = 'none', delim = ',', header = false, filename = true,
            columns = {'slide_id': 'VARCHAR', 'x': 'DOUBLE', 'y': 'DOUBLE'}
        )
) as centres
order by slide_id, source, x, y
