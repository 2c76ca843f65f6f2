"""The embedded encoders on real patches of slides that they were not trained on."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from support import SHARED

from lake.heads import HEADS
from udfs.encoders import catalog
from udfs.encoders.encoder import Encoder

PCAM = SHARED / "data/pcam"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PCAM.is_dir(), reason="the real patches are not here: ../shared/data/pcam is needed"),
]


def patches(split, count):
    """Patches from all over a split, and their labels."""
    table = pq.read_table(PCAM / f"{split}.parquet", columns=["jpeg", "label"])
    rows = (np.linspace(0, len(table) - 1, count).astype(int) + 7) % len(table)
    return table["jpeg"].take(rows).to_pylist(), table["label"].take(rows).to_numpy().astype(np.int64)


def embedded(encoder, jpegs):
    edge = (encoder.spec.input_px,) * 2
    images = [Image.open(io.BytesIO(jpeg)).convert("RGB").resize(edge, Image.Resampling.BILINEAR) for jpeg in jpegs]
    parts = np.array_split(np.stack([np.asarray(image) for image in images]), os.cpu_count() or 1)
    with ThreadPoolExecutor() as pool:
        return np.concatenate(list(pool.map(encoder.embed, parts)))


def test_all_depths_in_four_views_tell_tumor_better_than_the_last_layer():
    """With few patches the gain is small; bench/accuracy.py measures it with all of them."""
    seen, y = patches("train", 1200)
    other, truth = patches("valid", 600)
    auc = {}
    for name, strength in (("efficientnet_lite0", 1e-3), ("efficientnet_lite0_stages", 3e-3)):
        encoder = Encoder(*catalog.prepare(name))
        fitted = HEADS["logistic"].fit(embedded(encoder, seen), y, C=strength)
        auc[name] = roc_auc_score(truth, fitted.predict_proba(embedded(encoder, other))[:, 1])
    assert auc["efficientnet_lite0"] > 0.9
    assert auc["efficientnet_lite0_stages"] > auc["efficientnet_lite0"] + 0.004
