"""What changed from one version of the annotations to another: shapes, labels, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lake import session, store
from lake.sql_files import query
from udfs.errors import LakeError


@dataclass(frozen=True)
class Difference:
    """What two versions of the table annotations differ in; columns as in sql/diff.

    models: the model_ids that metrics compares, the older first; None where no model of its kind was trained.
    """

    from_version: int
    to_version: int
    shapes: pl.DataFrame
    patches: pl.DataFrame
    models: tuple[str | None, str | None]
    metrics: pl.DataFrame


def annotation_changes(root: Path, from_version: int | None = None, to_version: int | None = None) -> Difference:
    """The differences from one version of the annotations to a later one; by default the newest and the one before.

    Labels are those that held while each was the newest version; models and metrics are all that there are now.
    Raises LakeError for versions that are not there, or no longer.
    """
    versions = {name: table.version() for name, table in store.snapshot(root).items()}
    newest = versions["annotations"]
    later = newest if to_version is None else to_version
    earlier = later - 1 if from_version is None else from_version
    if not 0 <= earlier < later <= newest:
        raise LakeError(
            f"{root}: --from {earlier} --to {later}: must be two versions from 0 to {newest}, the older first; "
            "`histolake history annotations` lists them"
        )
    now = {name: versions[name] for name in ("models", "metrics")}
    old, new = (store.moment(root, {"annotations": number}) for number in (earlier, later))
    functions = ("area_of", "differing_area")
    with session.connect(root, udfs=(), at=old) as before, session.connect(root, udfs=functions, at=new | now) as after:
        after.register("annotations_before", before.table("annotations").to_arrow_table())
        after.register("evidence_before", before.table("annotated_slides").to_arrow_table())
        slides = [slide_id for (slide_id,) in after.execute(query("diff/slides")).fetchall()]
        for name, con in (("labels_before", before), ("labels_after", after)):
            after.register(name, con.execute(query("diff/labels"), {"slides": slides}).to_arrow_table())
        metrics = after.execute(query("diff/metrics"), {"from_version": earlier, "to_version": later}).pl()
        [models] = metrics.select("model_before", "model_after").unique().rows() or [(None, None)]
        return Difference(
            earlier,
            later,
            after.execute(query("diff/shapes")).pl(),
            after.execute(query("diff/patches")).pl(),
            models,
            metrics.drop("model_before", "model_after").drop_nulls("name"),
        )
