-- bucket_of: the partition, 0 to 15, of the large tables that holds a slide's rows.
--
-- Any engine can compute it: the lower 64 bits of md5(slide_id), read little-endian, modulo 16.
-- The number of buckets is fixed by the lake's format.

create or replace macro bucket_of(slide_id) as (md5_number_lower(slide_id) % 16)::integer;
