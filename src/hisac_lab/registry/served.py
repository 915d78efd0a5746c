"""The served model: an MLflow pyfunc that scores any user from the history it is given.

It needs this package's code, which travels with it, and none of its data: item ids, weights, embeddings and codebook
are in the bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.request import MODEL_INPUT, RequestReader
from hisac_lab.registry.records import VocabularyFile


class ServedRanker(PythonModel):
    """Scores candidates for users given by their histories.

    Input, one row per request: `history_items` (item ids, oldest first), `history_times` (seconds), `time` (seconds),
    `candidates` (item ids). Output: column `scores`, click probabilities in the order of the candidates.

    A model that reads stored instances has four columns more, what its store answers for the user, oldest first:
    `instance_items` (item ids), `instance_times` (seconds), `instance_labels` (0, 1, or 2 where the label has not
    arrived), `instance_vectors` (a list of numbers each). The store itself stays where it is.
    """

    def load_context(self, context: Any) -> None:
        """Loads the bundle that MLflow unpacked."""
        home = Path(context.artifacts["bundle"])
        self.model, _ = load_model(home)
        vocabulary = VocabularyFile.open(home)
        self.reader = RequestReader(self.model, vocabulary.items, vocabulary.history_limit)

    @arithmetic.one_thread()
    @torch.inference_mode()
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Scores each request.

        Raises:
            UserError: A column is missing, or a request is wrong (see `RequestReader.read`).
        """
        names = [column.name for column in self.reader.columns]
        for name in names:
            if name not in model_input.columns:
                raise UserError(MODEL_INPUT, "column is missing", f"give {', '.join(names)}", name)
        scores: list[list[float]] = []
        for row, request in enumerate(model_input.to_dict("records")):
            logits = self.model(*self.reader.read(row, request))
            scores.append(torch.sigmoid(logits[0]).tolist())
        return pd.DataFrame({"scores": scores}, index=model_input.index)


set_model(ServedRanker())
