"""The served network: a script that MLflow keeps beside each deep model and runs, without histolake, to answer.

It imports nothing of histolake, and answers as lake/served_model.py does; see docs/serving.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class ServedNetwork(PythonModel):
    """A network on embeddings of one encoder, with its threshold."""

    def load_context(self, context: Any) -> None:
        """Open the network and read its threshold, from the artifacts 'head' and 'decision'."""
        decision = json.loads(Path(context.artifacts["decision"]).read_text(encoding="utf-8"))
        self.threshold = float(decision["threshold"])
        self.session = ort.InferenceSession(context.artifacts["head"], providers=["CPUExecutionProvider"])

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Of each embedding, model_input of shape (n, dims): probability of tumor, and 1 from the threshold on."""
        (odds,) = self.session.run(["log_odds"], {"embeddings": np.asarray(model_input, np.float32)})
        probability = 1 / (1 + np.exp(-odds.astype(np.float64)))
        return pd.DataFrame({"probability": probability, "decision": (probability >= self.threshold).astype(np.int64)})


set_model(ServedNetwork())
