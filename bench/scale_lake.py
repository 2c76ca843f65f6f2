"""Lakes of up to a million slides of 10,000 patches: all that Delta's logs and the ledger say of them, and no rows.

Every table's log is a real commit's, and its real checkpoint's, with the add actions repeated for all units that the
stages would have written, a file each: 10,000 patches are one commit of patches, and two parts of features and
predictions. The files are there, for the lake cannot be opened without, but all are links to an empty one.
The ledger's rows are real, and merged into few files as `tidy_ledger` and `maintain` leave them.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import duckdb
import lakes
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from lake_rows import PART, entry, slides_of

from lake import creation, store
from lake.sql_files import SQL
from lake.store import Replacement, Value
from lake.tables import RUNS, TABLES

PATCHES = 10_000  # of a slide
PARTS = {"patches": 1, "features": 2, "predictions": 2}
ROW_BYTES = {"patches": 11, "features": 4_950, "predictions": 11}  # about; see docs/scale.md
UNDONE = 100  # of so many slides, one lacks its predictions
LINKS = 50_000  # of one file: file systems allow 65,000
BATCH = 500_000

UNITS = f"""
    with numbered as (
        select n::bigint as slide, p::integer as part, format('slide {{:07d}}', n) as slide_id
        from range($slides) as s (n), range($parts) as t (p)
        where not ($stage = 'predictions' and n % {UNDONE} = {UNDONE - 1})
    )
    select *,
        'fingerprint-' || slide_id as fingerprint,
        bucket_of(slide_id) as bucket,
        if($parts = 1, {PATCHES}, if(part = 0, {PART}, {PATCHES - PART})) as rows,
        least(slide + 1 + part, $slides) as version,
        format('part-{{}}-c000.snappy.parquet', md5(slide_id || part || $stage)::uuid) as file
    from numbered
"""  # noqa: S608

CHECKPOINT = """
    copy (
        select * from read_parquet($template) where add is null
        union all by name
        select c.* replace (
            struct_update(
                c.add,
                path := format('bucket={}/{}', u.bucket, u.file),
                size := (u.rows * $row_bytes)::bigint,
                partitionValues := map(['bucket'], [u.bucket::varchar]),
                stats := replace(replace(replace(
                    c.add.stats, 'slide 0000000', u.slide_id),
                    '"part":0', '"part":' || u.part), '"numRecords":10', '"numRecords":' || u.rows)
            ) as add
        )
        from read_parquet($template) as c, units as u
        where c.add is not null
    ) to '@target' (format parquet, compression snappy)
"""

LEDGER = """
    select
        'bench' as run_id, $stage as stage, slide_id, $identity as identity, part, fingerprint, 'ok' as status,
        rows::bigint as rows, 0::bigint as errors, null::varchar as error, 1.0::double as seconds,
        '2026-01-01'::timestamptz + to_seconds(slide) as finished_at, version as table_version,
        $versions as input_versions, $parameters as parameters, $code_version as code_version
    from units
"""

SLIDES = """
    select
        format('slide {:07d}', n) as slide_id, format('/slides/{}.tif', n) as path, null::varchar as patient_id,
        'generic-tiff' as vendor, 100000::bigint as width, 100000::bigint as height, 9::integer as level_count,
        0.25::double as mpp_x, 0.25::double as mpp_y, 'slide' as mpp_source, null::double as objective_power,
        null::bigint as bounds_x, null::bigint as bounds_y, null::bigint as bounds_width, null::bigint as bounds_height,
        1500000000::bigint as bytes, format('fingerprint-slide {:07d}', n) as fingerprint,
        ['train', 'train', 'train', 'validation', 'test'][n % 5 + 1] as split, if(n % 10 = 0, 'normal', null) as label,
        'ok' as status, null::varchar as error
    from range($start, $stop) as s (n)
"""


def write(root: Path, slides: int) -> Path:
    """Make the lake; returns its folder. One that was made before is used again."""
    if lakes.is_whole(root):
        return root
    shutil.rmtree(root, ignore_errors=True)
    creation.create(root)
    lakes.add_choices(root)
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'; set memory_limit = '1500MB'; set preserve_insertion_order = false")
        con.execute((SQL / "macros/bucket_of.sql").read_text(encoding="utf-8"))
        _write_slides(root, con, slides)
        for stage in PARTS:
            asked = {"slides": slides, "parts": PARTS[stage], "stage": stage}
            con.execute(f"create or replace temp table units as {UNITS}", asked)
            _write_log(root, con, stage, slides)
            _link_files(root, con, stage)
            _write_ledger(root, con, stage)
    lakes.finish(root)
    return root


def _write_slides(root: Path, con: duckdb.DuckDBPyConnection, slides: int) -> None:
    for start in range(0, slides, BATCH):
        rows = con.execute(SLIDES, {"start": start, "stop": min(slides, start + BATCH)}).to_arrow_table()
        done = store.entry("slides", run_id="bench", rows=rows.num_rows)
        store.replace(root, "slides", rows.cast(TABLES["slides"].schema), [], [done])


def _write_log(root: Path, con: duckdb.DuckDBPyConnection, stage: str, slides: int) -> None:
    """A checkpoint at the version that so many commits would have come to, made of one real commit's."""
    [slide] = slides_of({"slide 0000000": 10})
    unit: dict[str, Value] = {"slide_id": slide.slide_id, "part": 0, "bucket": slide.bucket}
    store.replace(root, stage, lakes.unit_rows(stage, (slide, 0)), [Replacement(unit)], [])
    table = store.open_table(root, stage)
    table.create_checkpoint()
    log = root / stage / "_delta_log"
    [template] = log.glob("*.checkpoint.parquet")
    target = log / f"{slides:020d}.checkpoint.parquet.new"
    con.execute(
        CHECKPOINT.replace("@target", str(target).replace("'", "''")),
        {"template": str(template), "row_bytes": ROW_BYTES[stage]},
    )
    for file in [*log.glob("*.json"), template, *(root / stage).glob("bucket=*/*.parquet")]:
        file.unlink()
    target.rename(log / f"{slides:020d}.checkpoint.parquet")
    (log / f"{slides:020d}.json").write_text(
        '{"commitInfo": {"timestamp": 0, "operation": "WRITE"}}\n', encoding="utf-8"
    )
    pointer = {"version": slides, "size": pq.read_metadata(log / f"{slides:020d}.checkpoint.parquet").num_rows}
    (log / "_last_checkpoint").write_text(json.dumps(pointer), encoding="utf-8")


def _link_files(root: Path, con: duckdb.DuckDBPyConnection, stage: str) -> None:
    folder = root / stage
    schema = pa.schema([field for field in TABLES[stage].schema if field.name != "bucket"])
    for bucket in range(16):
        (folder / f"bucket={bucket}").mkdir(exist_ok=True)
    found = con.execute("select format('bucket={}/{}', bucket, file) from units")
    number = itertools.count()
    while rows := found.fetchmany(LINKS):
        empty = folder / "_delta_log" / f"empty-{next(number)}.tmp"
        pq.write_table(schema.empty_table(), empty)
        for (name,) in rows:
            os.link(empty, folder / name)
        empty.unlink()


def _write_ledger(root: Path, con: duckdb.DuckDBPyConnection, stage: str) -> None:
    [slide] = slides_of({"any": 1})
    versions = json.dumps(dict.fromkeys(sorted(TABLES), 1000))
    said = {
        "stage": stage,
        "identity": entry(stage, slide, lakes.IDENTITIES[stage], rows=1).identity,
        "versions": versions,
        "parameters": json.dumps(dict(sorted(lakes.IDENTITIES[stage].items()))),
        "code_version": store.CODE_VERSION,
    }
    found = con.execute(LEDGER, said).fetch_record_batch(BATCH)
    while batches := list(itertools.islice(found, 1)):
        rows = pa.Table.from_batches(batches).select(RUNS.schema.names).cast(RUNS.schema)
        write_deltalake(store.open_table(root, "runs"), rows, mode="append", post_commithook_properties=store.HOOKS)
