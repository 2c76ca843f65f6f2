-- catalog: what a person can ask for: tables, views and macros, with their columns.
--
-- Python hands the names and descriptions in as `abouts`. A view's column has the description that most tables give to
-- a column of its name.
--
-- grain   one row per column, or per macro

with

shared as (

    select column_name, about
    from table_columns
    group by column_name, about
    qualify count(*) > sum(count(*)) over (partition by column_name) / 2

),

macros as (

    select function_name as name, any_value(parameters) as parameters
    from duckdb_functions()
    where function_type = 'macro' and not internal
    group by function_name

),

relations as (

    select table_name as name, column_name, column_index, data_type as type
    from duckdb_columns()
    where not internal

)

select
    a.kind,
    a.name,
    a.about,
    m.parameters,
    r.column_name,
    replace(r.type, 'TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ') as type,
    coalesce(t.about, s.about) as column_about
from abouts as a
left join macros as m on a.kind = 'macro' and a.name = m.name
left join relations as r on a.name = r.name
left join table_columns as t on r.name = t.table_name and r.column_name = t.column_name
left join shared as s on r.column_name = s.column_name
order by a.position, r.column_index
