-- slides_have_tissue: a tiling that found no patch on a slide; look at it, and try a lower --tissue-od.
--
-- notice

select r.slide_id, r.identity ->> 'patch_set' as patch_set
from runs as r
inner join slide_tilings as t
    on r.slide_id = t.slide_id and (r.identity ->> 'patch_set') = t.patch_set and r.fingerprint = t.fingerprint
where r.stage = 'patches' and r.status = 'empty'
group by all
order by all
