"""How a model is trained: what is chosen before anything is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lake.choices import CALIBRATIONS
from lake.heads import HEADS
from udfs.errors import ModelError

TABLES_READ = ("slides", "annotations", "patches", "labels", "features", "runs")  # runs: which annotations hold
BY_SLIDE = "by_slide"
CHOICES = {"head": (*HEADS,), "calibration": ("none", *CALIBRATIONS), "protocol": (BY_SLIDE, "patch_random")}


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how. All of it is part of the model's identity.

    with_reviews: whether reviewers' verdicts replace labels; `models.table_versions` then names `reviews`.
    The others are columns of `models`. Raises ModelError when one is not a choice that there is.
    """

    patch_set: str
    encoder_id: str
    label_rule: str
    head: str = "logistic"
    calibration: str = "none"
    protocol: str = BY_SLIDE
    with_reviews: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ModelError(f"--{name} {getattr(self, name)}: must be one of {', '.join(choices)}")

    @property
    def columns(self) -> dict[str, str]:
        """The columns of a model's row that say how it was trained."""
        return {name: value for name, value in asdict(self).items() if name != "with_reviews"}

    @property
    def selection(self) -> dict[str, Any]:
        """The $params of sql/training_set.sql."""
        names = ("patch_set", "encoder_id", "label_rule", "protocol", "with_reviews")
        return {name: getattr(self, name) for name in names}

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables whose versions decide the training set."""
        return (*TABLES_READ, "reviews") if self.with_reviews else TABLES_READ


def recipe_of(model: Mapping[str, Any]) -> Recipe:
    """How a model was trained, by its row of `models`."""
    told = {name: model[name] for name in ("patch_set", "encoder_id", "label_rule", *CHOICES)}
    return Recipe(**told, with_reviews="reviews" in json.loads(model["table_versions"]))
