-- embedded: which tilings have embeddings of which encoders, as the ledger has it: to read all features takes hours.
--
-- grain   one row per tiling and encoder

select distinct
    identity ->> 'patch_set' as patch_set,
    identity ->> 'encoder_id' as encoder_id
from runs
where stage = 'features' and slide_id is not null and rows > 0
order by all
