"""The served model: a script that MLflow keeps beside each model and runs, without histolake, to answer.

It imports nothing of histolake. Embeddings in, probability of tumor and decision out; see docs/serving.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class ServedHead(PythonModel):
    """A classifier of embeddings of one encoder, with its threshold."""

    def load_context(self, context: Any) -> None:
        """Read the classifier and its threshold from the artifacts 'head' and 'decision'."""
        decision = json.loads(Path(context.artifacts["decision"]).read_text(encoding="utf-8"))
        self.threshold = float(decision["threshold"])
        self.estimator = skops.io.load(context.artifacts["head"], trusted=decision["classes"])

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Of each embedding, model_input of shape (n, dims): probability of tumor, and 1 from the threshold on."""
        probability = self.estimator.predict_proba(np.asarray(model_input, np.float32))[:, 1].astype(np.float64)
        return pd.DataFrame({"probability": probability, "decision": (probability >= self.threshold).astype(np.int64)})


set_model(ServedHead())
