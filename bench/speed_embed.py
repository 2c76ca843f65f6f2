"""Images a second from a slide to features: crop and embed in SQL, beside loops over ready pixels.

Ready pixels are RGB bytes in memory; what is made of them counts. The peers that compute on ready pixels are spared the
cropping, which ours does. Where a provider here honours bf16 and the features hold, ours are computed in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import duckdb
import networks
import numpy as np
import onnxruntime as ort
import race
import report
import slides
import speed_crop
from features import Embeddings, pixels, read_patches
from numpy.typing import NDArray
from race import OURS, Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lake.session import new_connection
from udfs.embed import embed_udf
from udfs.encoders import catalog
from udfs.encoders.encoder import Encoder
from udfs.encoders.sessions import providers
from udfs.processors import cores
from udfs.registry import UDFS

ROUNDS = 3
IMAGES = {"inception_v3": 128, "efficientnet_lite0": 512}  # that a contender embeds in a round: whole slices
PATCHES = 1_000  # of training and of validation, for the AUC
TORCH_BATCH = 16
SESSION, CPU = "its own parts: OpenSlide loop and session loop", "ONNX Runtime CPU, fp32"
TORCH, TORCH_BF16 = "PyTorch fp32", "PyTorch bf16"

Images = NDArray[np.uint8]


def measure(folder: Path) -> list[Figure]:
    """Both encoders beside their peers, and what bf16 and int8 do to features."""
    piece = slides.real_piece()
    slide = speed_crop.square_slide(folder, piece)
    has_amx = "AMX" in report.instructions()
    figures = []
    for name in IMAGES:
        bars: dict[str, float | None] = {SESSION: 0.95, CPU: None, TORCH: None, TORCH_BF16: None}
        if name == "inception_v3":
            bars |= {CPU: 4, TORCH: 6, TORCH_BF16: 1.5} if has_amx else {TORCH: 1.3}
        figures += _race(name, folder, slide, piece, bars)
    for name, least in (("efficientnet_lite0", None), ("inception_v3", None if has_amx else 1.3)):
        figures += _race_int8(name, folder, slide, piece, least)
    for name in IMAGES:
        figures += _accuracy(name, folder)
    return figures


def _race(name: str, folder: Path, slide: Path, piece: slides.Piece, bars: dict[str, float | None]) -> list[Figure]:
    spec, file, weights = networks.prepare(name, folder, "bf16" if providers("bf16") else "fp32")
    encoder = Encoder(spec, file)
    grid = speed_crop.gridded(spec.input_px)
    places = grid[: IMAGES[name]]
    images = ready(slide, places, spec.input_px)
    crops = speed_crop.contenders(folder, slide, places, spec.input_px)
    measured = race.rates(
        {
            OURS: lambda: in_sql(encoder, slide, places),
            "crop": crops[speed_crop.BARE],
            "session": lambda: by_session(encoder, images),
            CPU: by_runtime(file, images),
            TORCH: by_torch(file, images, "float32"),
            TORCH_BF16: by_torch(file, images, "bfloat16"),
        },
        ROUNDS,
    )
    measured[SESSION] = [1 / (1 / a + 1 / b) for a, b in zip(measured["crop"], measured["session"], strict=True)]
    found = race.against(f"features of {name}, {spec.precision}", "images/s", measured, bars)
    alone = statistics.median(measured["session"])
    note = f"{encoder.provider}, {weights}; {piece.about}; session loop alone {race.amount(alone)} images/s"
    return [replace(each, note=note) for each in found]


def _race_int8(name: str, folder: Path, slide: Path, piece: slides.Piece, least: float | None) -> list[Figure]:
    """The same network in int8 and in fp32, both in SQL, and by PyTorch; least: bar over PyTorch's fp32."""
    spec, file, weights = networks.prepare(f"{name}_int8", folder, "int8")
    exact = networks.prepare(name, folder, "fp32")
    places = speed_crop.gridded(spec.input_px)[: IMAGES[name]]
    images = ready(slide, places, spec.input_px)
    ours, theirs = Encoder(spec, file), Encoder(*exact[:2])
    measured = race.rates(
        {
            OURS: lambda: in_sql(ours, slide, places),
            f"{name}, fp32": lambda: in_sql(theirs, slide, places),
            TORCH: by_torch(exact[1], images, "float32"),
            TORCH_BF16: by_torch(exact[1], images, "bfloat16"),
        },
        ROUNDS,
    )
    bars = {f"{name}, fp32": 1.2, TORCH: least, TORCH_BF16: None}
    found = race.against(f"features of {name}_int8", "images/s", measured, bars)
    return [replace(each, note=f"{ours.provider}, {weights}; {piece.about}") for each in found]


def ready(slide: Path, places: speed_crop.Places, px: int) -> Images:
    """The pixels of patches, (n, px, px, 3)."""
    with duckdb.connect() as con:
        UDFS["crop"].register(con)
        con.register("patches", speed_crop.table(str(slide), places, px))
        rows = con.execute("select crop(path, x, y, px, px, px::integer).pixels from patches").fetchall()
    return np.frombuffer(b"".join(row[0] for row in rows), np.uint8).reshape(len(rows), px, px, 3)


def in_sql(encoder: Encoder, slide: Path, places: speed_crop.Places) -> int:
    """What sql/features.sql does."""
    with new_connection() as con:
        UDFS["crop"].register(con)
        embed_udf(lambda _: encoder).register(con)
        con.register("patches", speed_crop.table(str(slide), places, encoder.spec.input_px))
        query = "select embed('it', crop(path, x, y, px, px, px::integer).pixels) as embedding from patches"
        features = con.execute(query).to_arrow_table()
    return int(features.num_rows - features["embedding"].null_count)


def by_session(encoder: Encoder, images: Images) -> int:
    """The same session, called by as many threads as there are processors with the images that one run takes."""
    batch = encoder.batch
    with ThreadPoolExecutor(cores()) as pool:
        parts = [images[start : start + batch] for start in range(0, len(images), batch)]
        return sum(len(features) for features in pool.map(encoder.embed, parts))


def by_runtime(file: Path, images: Images) -> Callable[[], int]:
    """ONNX Runtime as it comes."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])

    def call() -> int:
        parts = [images[start : start + TORCH_BATCH] for start in range(0, len(images), TORCH_BATCH)]
        return sum(len(session.run(None, {"pixels": part})[0]) for part in parts)

    return call


def by_torch(file: Path, images: Images, dtype: str) -> Callable[[], int]:
    """PyTorch without gradients, channels last, on all processors."""
    import torch

    network = networks.in_torch(file).to(getattr(torch, dtype))

    def call() -> int:
        torch.set_num_threads(cores())
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(images.copy()), TORCH_BATCH)
            return sum([len(network(part)) for part in parts])

    return call


def _accuracy(name: str, folder: Path) -> list[Figure]:
    """Features in bf16 and int8 beside fp32: their cosine, and the AUC of a head on each."""
    data = report.SHARED / "data" / "pcam"
    what = f"features of {name}, {{}} beside fp32"
    if not (data / "train.parquet").is_file():
        return [Figure(what.format("bf16 and int8"), "", None, note="PatchCamelyon's patches are not here")]
    if not catalog.available(name):  # what random weights lose says nothing of trained ones
        return [Figure(what.format("bf16 and int8"), "", None, note="the published weights are not within reach")]
    spec, file, _ = networks.prepare(name, folder, "fp32")
    ways: dict[str, Callable[[Images], Embeddings]] = {"fp32": Encoder(spec, file).embed}
    ways["int8"] = Encoder(*networks.prepare(f"{name}_int8", folder, "int8")[:2]).embed
    notes = {"int8": f"{name}_int8"}
    if providers("bf16"):
        ways["bf16"] = Encoder(*networks.prepare(name, folder, "bf16")[:2]).embed
        notes["bf16"] = "by OpenVINO"
    else:
        ways["bf16"], notes["bf16"] = _embed_by_torch(file), "by PyTorch: no provider here computes in it"
    images, labels = {}, {}
    for split in ("train", "valid"):
        patches = read_patches(data, split)
        rows = np.linspace(0, len(patches.labels) - 1, PATCHES).astype(np.int64)
        images[split], labels[split] = pixels(patches, rows, spec.input_px), patches.labels[rows]
    valid, aucs = {}, {}
    for precision, embed in ways.items():
        head = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000))
        head.fit(embed(images["train"]), labels["train"])
        valid[precision] = embed(images["valid"])
        aucs[precision] = roc_auc_score(labels["valid"], head.decision_function(valid[precision]))
    figures = []
    for precision, by in notes.items():
        a, b = valid["fp32"], valid[precision]
        cosine = np.mean(np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
        change, named = abs(aucs[precision] - aucs["fp32"]), what.format(precision)
        note = f"{by}; {PATCHES:,} patches of PatchCamelyon to train on, as many to measure on"
        figures += [
            Figure(f"{named}: mean cosine, away from 1", "", 1 - float(cosine), at_most=0.001, note=note),
            Figure(f"{named}: change of AUC", "", change, at_most=0.002, note=note),
        ]
    return figures


def _embed_by_torch(file: Path) -> Callable[[Images], Embeddings]:
    import torch

    network = networks.in_torch(file).to(torch.bfloat16)

    def embed(images: Images) -> Embeddings:
        with torch.inference_mode():
            parts = [network(part).float() for part in torch.split(torch.from_numpy(images), TORCH_BATCH)]
        found: Embeddings = torch.cat(parts).numpy()
        return found

    return embed
