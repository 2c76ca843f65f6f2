-- broken_rows: what breaks the chain of the audit table; nothing where every row follows from the one before it.
--
-- grain   one row per row that was changed, stands twice, comes after a gap, or does not follow from the one before
-- units   sequence_before: the place of the row before, 0 for the first; problem: 'changed', 'twice', 'gap', 'unlinked'
-- params  $anchor  the hash that the first row follows from

with

hashed as (

    select
        sequence,
        previous_hash,
        hash,
        sha256(
            array_to_string(
                list_transform(
                    [
                        previous_hash,
                        sequence::varchar,
                        epoch_us(recorded_at)::varchar,
                        subject,
                        name,
                        role,
                        via,
                        action,
                        slide_id,
                        object,
                        versions,
                        details
                    ],
                    lambda field: coalesce(strlen(field) || ':' || field || ',', '-')
                ),
                ''
            )
        ) as computed
    from audit

),

linked as (

    select
        *,
        coalesce(lag(sequence) over chain, 0) as sequence_before,
        coalesce(lag(hash) over chain, $anchor) as hash_before
    from hashed
    window chain as (order by sequence nulls first, hash)

),

compared as (

    select
        *,
        coalesce(hash = computed, false) as is_as_written,
        coalesce(sequence = sequence_before + 1, false) as is_next,
        coalesce(previous_hash = hash_before, false) as is_linked
    from linked

),

judged as (

    select
        sequence,
        sequence_before,
        case
            when not is_as_written then 'changed'
            when sequence = sequence_before then 'twice'
            when not is_next then 'gap'
            when not is_linked then 'unlinked'
        end as problem
    from compared

)

select
    sequence,
    sequence_before,
    problem
from judged
where problem is not null
order by sequence, problem
