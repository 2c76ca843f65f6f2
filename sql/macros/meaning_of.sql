-- meaning_of: what an annotation says of its area: 'tumor', 'normal', 'exclusion' (cut out of tumor) or 'none'.

create or replace macro meaning_of(label, is_exclusion) as
case when is_exclusion then 'exclusion' when label = 1 then 'tumor' when label = 0 then 'normal' else 'none' end;
