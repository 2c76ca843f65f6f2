"""The lake's tables as frozen values: name, purpose, key, and a unit for every column."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

FORMAT = 4  # of the lake; a lake of a higher number was written by a newer histolake
GROWN: dict[str, dict[str, str | float]] = {
    "models": {"protocol": "by_slide", "head": "logistic", "calibration": "none", "threshold": 0.5},
    "metrics": {},
}
"""Tables that had fewer columns in lakes of older formats, and what held then of those that are new; else NULL."""

ARROW_TYPES: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "FLOAT": pa.float32(),
    "BOOLEAN": pa.bool_(),
    "BLOB": pa.binary(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "FLOAT[]": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class Column:
    """A column: SQL type, and what it holds in which unit."""

    name: str
    type: str
    about: str


@dataclass(frozen=True)
class Table:
    """A Delta table of the lake. Tables with a `bucket` column are partitioned by it."""

    name: str
    about: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def partition(self) -> str | None:
        """The column whose values are folders."""
        names = {column.name for column in self.columns}
        return "stage" if self.name == "runs" else "bucket" if "bucket" in names else None

    @property
    def properties(self) -> dict[str, str | None]:
        """Delta's properties of the table: that rows are only added, and that it opens quickly."""
        is_audit = self.name == "audit"  # opened for every row
        return {"delta.appendOnly": "true", "delta.checkpointInterval": "20"} if is_audit else {}

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, each field's comment in its metadata."""
        return pa.schema([pa.field(c.name, ARROW_TYPES[c.type], metadata={"comment": c.about}) for c in self.columns])


def _columns(**columns: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column(name, type_, about) for name, (type_, about) in columns.items())


_SLIDE_ID = ("VARCHAR", "the slide; by default its file's name without the ending, or a pseudonym for that")
_PATCH_SET = ("VARCHAR", "the tiling, see patch_sets")
_BUCKET = ("INTEGER", "partition: bucket_of(slide_id), 0 to 15")
_PART = ("INTEGER", "range of 8,192 patches in tile order, from 0")
_X = ("BIGINT", "left edge, level-0 px")
_Y = ("BIGINT", "top edge, level-0 px")
_FINGERPRINT = ("VARCHAR", "slides.fingerprint that the row was made from")

SLIDES = Table(
    "slides",
    "One row a slide file, readable or not.",
    ("slide_id",),
    _columns(
        slide_id=_SLIDE_ID,
        path=("VARCHAR", "the file, absolute; its address; or a pseudonym for either"),
        patient_id=("VARCHAR", "from the manifest; NULL when unknown; in a lake of pseudonyms one of these"),
        vendor=("VARCHAR", "OpenSlide's name of the format"),
        width=("BIGINT", "level-0 px"),
        height=("BIGINT", "level-0 px"),
        level_count=("INTEGER", "resolution levels in the file"),
        mpp_x=("DOUBLE", "microns per level-0 px, horizontally"),
        mpp_y=("DOUBLE", "microns per level-0 px, vertically"),
        mpp_source=("VARCHAR", "'manifest' or 'slide'; NULL when neither tells"),
        objective_power=("DOUBLE", "magnification that the file claims, e.g. 40; never used for lengths"),
        bounds_x=("BIGINT", "left edge of the scanned area, level-0 px"),
        bounds_y=("BIGINT", "top edge of the scanned area, level-0 px"),
        bounds_width=("BIGINT", "width of the scanned area, level-0 px"),
        bounds_height=("BIGINT", "height of the scanned area, level-0 px"),
        bytes=("BIGINT", "size of all files of the slide, bytes"),
        fingerprint=("VARCHAR", "hash of content and mpp: changes when anything made from the slide must be remade"),
        split=("VARCHAR", "'train', 'validation' or 'test'"),
        label=("VARCHAR", "of the whole slide, 'tumor' or 'normal'; NULL when unknown"),
        status=("VARCHAR", "'ok', or 'failed' with the reason in error"),
        error=("VARCHAR", "why the slide cannot be used, and the remedy; else NULL"),
    ),
)

ANNOTATIONS = Table(
    "annotations",
    "One row a shape that was drawn on a slide. Rows of slides that are not in the lake (yet) are kept.",
    ("slide_id", "source", "annotation_id"),
    _columns(
        slide_id=_SLIDE_ID,
        source=("VARCHAR", "name of the annotation file, or a pseudonym for it"),
        annotation_id=("VARCHAR", "name of the shape in its file, made unique, or a pseudonym; 'x,y' for a centre"),
        group_name=("VARCHAR", "the file's own group or class, a pseudonym unless it has a meaning; NULL for none"),
        label=("INTEGER", "1 tumor, 0 normal; NULL for an exclusion or a group without meaning"),
        is_exclusion=("BOOLEAN", "whether the area is cut out of the others"),
        geometry=("BLOB", "WKB, level-0 px"),
        note=("VARCHAR", "how an invalid outline was repaired; else NULL"),
        format=("VARCHAR", "'asap_xml', 'qupath_geojson', 'ncrf_json' or 'ncrf_csv'"),
    ),
)

ANNOTATION_GROUPS = Table(
    "annotation_groups",
    "One row a name that groups or classes of annotation files have, and what it means; `histolake groups` extends it.",
    ("group_name",),
    _columns(
        group_name=("VARCHAR", "the name, lower case"),
        label=("INTEGER", "1 tumor, 0 normal; NULL for neither"),
        is_exclusion=("BOOLEAN", "whether the area is cut out of the tumor"),
    ),
)

PATCH_SETS = Table(
    "patch_sets",
    "One row a tiling: every parameter that decides which patches exist.",
    ("patch_set",),
    _columns(
        patch_set=("VARCHAR", "readable name and a hash of the other columns"),
        tiling=("VARCHAR", "'grid', or 'centres' of annotated points"),
        patch_px=("INTEGER", "edge of a patch as it is read, px"),
        mpp=("DOUBLE", "resolution to read at, microns per px"),
        stride_px=("INTEGER", "step of the grid, px at mpp; NULL for centres"),
        min_tissue=("DOUBLE", "smallest tissue fraction kept, 0 to 1; NULL for centres"),
        tissue_od=("DOUBLE", "least optical density above glass that is tissue"),
        allow_upsampling=("BOOLEAN", "whether slides coarser than mpp are read all the same"),
        region_x=("DOUBLE", "segment of interest, left edge, level-0 px; NULL for whole slides"),
        region_y=("DOUBLE", "its top edge, level-0 px"),
        region_width=("DOUBLE", "its width, level-0 px"),
        region_height=("DOUBLE", "its height, level-0 px"),
    ),
)

PATCHES = Table(
    "patches",
    "One row a patch that a tiling found on a slide.",
    ("slide_id", "patch_set", "x", "y"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        part=_PART,
        x=_X,
        y=_Y,
        span_x=("DOUBLE", "width, level-0 px; a fraction where mpp does not divide"),
        span_y=("DOUBLE", "height, level-0 px; differs from span_x where mpp_x and mpp_y differ"),
        mpp=("DOUBLE", "microns per px that the patch is read at"),
        tissue=("DOUBLE", "fraction of the patch that is tissue, 0 to 1"),
        fingerprint=_FINGERPRINT,
        bucket=_BUCKET,
    ),
)

LABELS = Table(
    "labels",
    "A log: one row a patch whose label is new, or another than before. The view current_labels tells what holds.",
    ("slide_id", "patch_set", "label_rule", "annotation_hash", "x", "y"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        part=_PART,
        label_rule=("VARCHAR", "'centre', 'points', or 'covered>=F': fraction F of the patch is annotated tumor"),
        annotation_hash=(
            "VARCHAR",
            "hash of slide, annotations and what their groups mean: all that labels follow from",
        ),
        x=_X,
        y=_Y,
        label=("INTEGER", "1 tumor, 0 normal; NULL: no longer labelled"),
        fingerprint=_FINGERPRINT,
        bucket=_BUCKET,
    ),
)

PATCH_IMAGES = Table(
    "patch_images",
    "One row a stored crop; optional, for export and review.",
    ("slide_id", "patch_set", "image_format", "x", "y"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        part=_PART,
        image_format=("VARCHAR", "'jpeg' (quality 90) or 'png'"),
        x=_X,
        y=_Y,
        image=("BLOB", "the encoded crop, patch_px x patch_px; NULL when unreadable"),
        error=("VARCHAR", "why it is unreadable; else NULL"),
        fingerprint=_FINGERPRINT,
        bucket=_BUCKET,
    ),
)

ENCODERS = Table(
    "encoders",
    "One row a network that the lake has used, with all that decides its output.",
    ("encoder_id",),
    _columns(
        encoder_id=("VARCHAR", "name and a hash of sha256, preprocessing and precision"),
        name=("VARCHAR", "as the user calls it"),
        sha256=("VARCHAR", "of the ONNX file, kept in the lake's folder onnx/"),
        preprocessing=("VARCHAR", "JSON: how RGB pixels, 0 to 255, become the network's input"),
        precision=("VARCHAR", "declared arithmetic: fp32, bf16, fp16 or int8"),
        input_px=("INTEGER", "edge of the input, px"),
        dims=("INTEGER", "length of an embedding"),
        source=("VARCHAR", "where the weights come from"),
    ),
)

FEATURES = Table(
    "features",
    "One row a patch and encoder: the embedding.",
    ("slide_id", "patch_set", "encoder_id", "x", "y"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        encoder_id=("VARCHAR", "see encoders"),
        part=_PART,
        x=_X,
        y=_Y,
        embedding=("FLOAT[]", "encoders.dims numbers; NULL when the patch is unreadable"),
        error=("VARCHAR", "why it is unreadable; else NULL"),
        fingerprint=_FINGERPRINT,
        bucket=_BUCKET,
    ),
)

MODELS = Table(
    "models",
    "One row a trained classifier, and what it may be applied to.",
    ("model_id",),
    _columns(
        model_id=("VARCHAR", "hash of the model's content"),
        encoder_id=("VARCHAR", "the only encoder whose features it may score"),
        patch_set=("VARCHAR", "tiling that it was trained on; others of the same patch_px and mpp may be scored"),
        patch_px=("INTEGER", "edge of a patch, px"),
        mpp=("DOUBLE", "microns per px of a patch"),
        label_rule=("VARCHAR", "labels.label_rule that it was trained on"),
        dims=("INTEGER", "length of the embeddings that it takes"),
        uri=("VARCHAR", "MLflow's address of the model"),
        artifact=("VARCHAR", "MLflow's folder of the model, relative to the lake"),
        mlflow_run_id=("VARCHAR", "the MLflow run that trained it"),
        protocol=("VARCHAR", "'by_slide', or 'patch_random': trained on patches of every slide, also of test slides"),
        head=("VARCHAR", "kind of classifier, e.g. 'logistic'"),
        calibration=("VARCHAR", "of its probabilities on validation: 'none', 'platt' or 'temperature'"),
        threshold=("DOUBLE", "probability from which on a patch counts as tumor, chosen without test slides"),
        slopes=("FLOAT[]", "of the log odds, dims numbers, scaling and calibration folded in; NULL: not linear"),
        intercept=("DOUBLE", "of the log odds, added to the embedding's product with slopes; NULL: not linear"),
        sum_bits=(
            "INTEGER",
            "numbers that the product is summed in: 32 bits where near enough, or 64; NULL: not linear",
        ),
        trained_at=("TIMESTAMPTZ", "end of the training, UTC"),
        training_slides=("VARCHAR", "JSON: ids of the slides that it was trained on; NULL when an older histolake did"),
        table_versions=("VARCHAR", "JSON: Delta version of every table that the training read"),
        code_version=("VARCHAR", "of histolake"),
    ),
)

MODEL_FILES = Table(
    "model_files",
    "One row a trained classifier: its file, from which predict loads it unless it is linear.",
    ("model_id",),
    _columns(
        model_id=("VARCHAR", "see models"),
        format=("VARCHAR", "'skops': scikit-learn's own classes, nothing pickled; 'onnx': a network"),
        content=("BLOB", "the file"),
        sha256=("VARCHAR", "of content, hexadecimal; another is refused"),
    ),
)

PREDICTIONS = Table(
    "predictions",
    "One row a patch and model: the probability of tumor.",
    ("slide_id", "patch_set", "model_id", "x", "y"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        model_id=("VARCHAR", "see models"),
        part=_PART,
        x=_X,
        y=_Y,
        probability=("DOUBLE", "of tumor, 0 to 1"),
        fingerprint=_FINGERPRINT,
        bucket=_BUCKET,
    ),
)

DETECTIONS = Table(
    "detections",
    "One row a peak of a slide's heatmap: no higher one lies within the radius.",
    ("slide_id", "patch_set", "model_id", "radius_um", "smoothing_um", "min_probability", "x", "y"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        model_id=("VARCHAR", "see models"),
        radius_um=("DOUBLE", "least distance between two peaks, microns"),
        smoothing_um=("DOUBLE", "standard deviation of the Gaussian that the heatmap was smoothed with, microns; or 0"),
        min_probability=("DOUBLE", "the lowest peak that was kept, 0 to 1"),
        x=("DOUBLE", "centre of the peak's patch, level-0 px"),
        y=("DOUBLE", "centre of the peak's patch, level-0 px"),
        probability=("DOUBLE", "of tumor, smoothed, 0 to 1"),
        fingerprint=("VARCHAR", "heatmaps.fingerprint that the row was made from"),
        bucket=_BUCKET,
    ),
)

SLIDE_SCORES = Table(
    "slide_scores",
    "One row a slide, model and way of scoring: how likely the slide holds tumor.",
    ("slide_id", "patch_set", "model_id", "name"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        model_id=("VARCHAR", "see models"),
        name=("VARCHAR", "'max', 'mean_top10', or 'logistic' over statistics of the heatmap"),
        score=("DOUBLE", "0 to 1, higher for tumor"),
        fingerprint=_FINGERPRINT,
    ),
)

REVIEWS = Table(
    "reviews",
    "One row a verdict of a reviewer on a patch; verdicts are added, never changed.",
    ("slide_id", "patch_set", "x", "y", "reviewer", "reviewed_at"),
    _columns(
        slide_id=_SLIDE_ID,
        patch_set=_PATCH_SET,
        x=_X,
        y=_Y,
        verdict=("VARCHAR", "'tumor', 'normal' or 'unsure'"),
        note=("VARCHAR", "the reviewer's words; NULL for none"),
        reviewer=("VARCHAR", "who judged"),
        model_id=("VARCHAR", "the model whose prediction was judged; NULL for none"),
        probability=("DOUBLE", "that it gave, 0 to 1"),
        label=("INTEGER", "that the annotations gave, 1 tumor, 0 normal; NULL for none"),
        reviewed_at=("TIMESTAMPTZ", "when it was said, UTC"),
    ),
)

METRICS = Table(
    "metrics",
    "One row a measured number.",
    ("model_id", "patch_set", "protocol", "split", "scope", "name"),
    _columns(
        model_id=("VARCHAR", "see models"),
        patch_set=_PATCH_SET,
        protocol=("VARCHAR", "'by_slide': no slide, and no patient, is on two sides; or 'patch_random'"),
        split=("VARCHAR", "'train', 'validation' or 'test'"),
        scope=("VARCHAR", "what is counted: 'patch', 'slide' or 'lesion'"),
        name=("VARCHAR", "e.g. 'auc'; the file of the same scope in sql/metrics defines it"),
        value=("DOUBLE", "0 to 1, or a count; NULL where it is not defined"),
        low=("DOUBLE", "lower end of the 95 % interval by bootstrap over slides; NULL where there is none"),
        high=("DOUBLE", "upper end of the 95 % interval by bootstrap over slides; NULL where there is none"),
        parameters=("VARCHAR", "JSON: what else decides it: the threshold, or how detections are found"),
        encoder_id=("VARCHAR", "the encoder behind it"),
        mlflow_run_id=("VARCHAR", "the MLflow run behind it"),
        table_versions=("VARCHAR", "JSON: Delta version of every table that the number was computed from"),
        measured_at=("TIMESTAMPTZ", "when the number was computed, UTC"),
    ),
)

SETTINGS = Table(
    "settings",
    "One row a choice that the lake keeps.",
    ("name",),
    _columns(
        name=(
            "VARCHAR",
            "'format', 'seed', 'encoder_id', 'champion' (a model_id) or 'pseudonyms' (an id of their key)",
        ),
        value=("VARCHAR", "the choice, as text"),
    ),
)

PEOPLE = Table(
    "people",
    "One row a person who has a role in the app, for logins whose provider does not tell roles.",
    ("person",),
    _columns(
        person=("VARCHAR", "e-mail address, lower case, or the subject of the login"),
        role=("VARCHAR", "'viewer', 'analyst' or 'admin'"),
    ),
)

RUNS = Table(
    "runs",
    "The ledger: one row a unit of work and attempt, and one for every other commit to a table.",
    ("run_id", "stage", "slide_id", "identity", "part"),
    _columns(
        run_id=("VARCHAR", "one call of a command"),
        stage=("VARCHAR", "partition: the stage, which is the table it fills"),
        slide_id=("VARCHAR", "the slide; NULL for work that concerns none"),
        identity=("VARCHAR", "JSON: what else decides the result: tiling, encoder, model …"),
        part=("INTEGER", "range of 8,192 patches, from 0"),
        fingerprint=("VARCHAR", "of the input; other results of the unit are stale"),
        status=("VARCHAR", "'ok', 'empty' (no rows, and rightly so) or 'failed'"),
        rows=("BIGINT", "rows written"),
        errors=("BIGINT", "rows that hold an error, e.g. unreadable patches"),
        error=("VARCHAR", "the first error; else NULL"),
        seconds=("DOUBLE", "computing the unit, s"),
        finished_at=("TIMESTAMPTZ", "end of the unit, UTC"),
        table_version=("BIGINT", "Delta version of the stage's table that holds the rows; NULL when none was written"),
        input_versions=("VARCHAR", "JSON: Delta version of every table at the start"),
        parameters=("VARCHAR", "JSON: the stage's $params"),
        code_version=("VARCHAR", "of histolake"),
    ),
)

AUDIT = Table(
    "audit",
    "One row a deed that is accounted for, written before it is done; rows are only added, each with the hash of the "
    "row before it. `histolake audit` reads and verifies it; no connection shows it.",
    ("sequence",),
    _columns(
        sequence=("BIGINT", "place in the chain, from 1"),
        recorded_at=("TIMESTAMPTZ", "when, UTC"),
        subject=("VARCHAR", "who: the login's subject, or the user of the machine"),
        name=("VARCHAR", "the person's name; NULL where it is not told"),
        role=("VARCHAR", "'viewer', 'analyst' or 'admin' in the app; NULL on the command line"),
        via=("VARCHAR", "'app', or 'cli' for the command line and Python"),
        action=("VARCHAR", "what was done: see docs/audit.md"),
        slide_id=("VARCHAR", "the slide that it concerns; NULL for none, or all"),
        object=("VARCHAR", "the model, statement, file, table or page that it concerns; NULL for none"),
        versions=("VARCHAR", "JSON: Delta version of what was shown; of the ledger alone it means the whole moment"),
        details=("VARCHAR", "JSON: what else there is to say of it"),
        previous_hash=("VARCHAR", "hash of the row before; of the first row the lake's anchor"),
        hash=("VARCHAR", "SHA-256, hexadecimal, of previous_hash and the other columns as docs/audit.md writes them"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        SLIDES,
        ANNOTATIONS,
        ANNOTATION_GROUPS,
        PATCH_SETS,
        PATCHES,
        LABELS,
        PATCH_IMAGES,
        ENCODERS,
        FEATURES,
        MODELS,
        MODEL_FILES,
        PREDICTIONS,
        DETECTIONS,
        SLIDE_SCORES,
        REVIEWS,
        METRICS,
        SETTINGS,
        RUNS,
    )
}
"""Tables that the ledger keeps versions of, and every connection shows."""

APART: dict[str, Table] = {table.name: table for table in (PEOPLE, AUDIT)}
"""Tables of a lake beside these: the ledger does not tell of them, and no connection shows them."""
