"""The served model: an MLflow pyfunc that scores any user from the history it is given.

It needs this package's code, which travels with it, and none of its data: item ids, weights, embeddings and codebook
are in the bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.explain import Explanation
from hisac_lab.inference.explained import EXPLAIN, answer_explained
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.inference.request import (
    MODEL_INPUT,
    NO_EVENT,
    Asked,
    RequestReader,
    answer_names,
    answer_of,
    note_on,
    nothing,
)
from hisac_lab.registry.context import snapshots
from hisac_lab.registry.integrity import CODE, DIGEST, check_bundle, check_code

AGAIN = "download the version again, or register it anew"
ROWS_AT_ONCE = 32  # requests of like length in one pass


class ServedRanker(PythonModel):
    """Scores candidates for users given by their histories.

    Input, one row per request: `history_items` (item ids, oldest first), `history_times` (seconds), `time` (seconds),
    `candidates` (item ids). Output, one row per request: `scores`, click probabilities in the order of the candidates,
    null for an item that the model does not know, and `scores_NAME` for each further answer that it has learned;
    `unknown_events`, how many events of the history were left out for that reason; `note`, why a score is null, or
    empty. With the parameter `explain` there is also `explanation`, what was read of the user for each candidate (see
    `inference.explain`), null where nothing was.

    A model that learned from a log with feedback has one column more, which may be left out: `history_feedback`, for
    each event the value as it stands in the log, null where there is none yet.

    A model that reads item series has another column that may be left out: `candidate_context`, for each candidate the
    numbers that `ContextColumns.item_names` lists. Without it, the counts at the end of the log that the model was
    registered with answer.

    A model that reads the data set's columns of users and requests has a column for each that may be left out, as
    `user_age` and `request_device`: the value as it stands there, null where it is not known.

    A model that reads stored instances has four columns more, what its store answers for the user, oldest first:
    `instance_items` (item ids), `instance_times` (seconds), `instance_labels` (0, 1, or 2 where the label has not
    arrived), `instance_vectors` (a list of numbers each). The store itself stays where it is.
    """

    def load_context(self, context: Any) -> None:
        """Loads the bundle that MLflow unpacked.

        Raises:
            UserError: It is damaged, or the code beside it is not what was registered.
        """
        home = Path(context.artifacts["bundle"])
        recorded = getattr(context, "model_config", None) or {}
        if digest := recorded.get(DIGEST):
            check_bundle(home, digest, AGAIN)
        if digest := recorded.get(CODE):
            check_code(home.parents[1], digest, AGAIN)
        self.model, _ = load_model(home)
        vocabulary = VocabularyFile.open(home)
        self.items = vocabulary.items
        self.reader = RequestReader(self.model, self.items, vocabulary.history_limit, snapshots(home, self.model))

    @arithmetic.one_thread()
    @torch.inference_mode()
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Scores each request.

        Raises:
            MlflowException: A column is missing, or a request is wrong (see `RequestReader.read`): a bad request, 400.
        """
        try:
            asked = self._read(model_input)
        except UserError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        names = answer_names(self.model.tasks)
        answers: dict[str, Any] = {name: [nothing(one) for one in asked] for name in names}
        by_length = sorted(range(len(asked)), key=lambda row: len(asked[row].items))
        for at in range(0, len(asked), ROWS_AT_ONCE):
            rows = by_length[at : at + ROWS_AT_ONCE]
            history, candidates, context = self.reader.batch([asked[row] for row in rows])
            chances = torch.sigmoid(self.model.answer(self.model.encode(history), candidates, context))
            for row, chance in zip(rows, chances, strict=True):
                if len(asked[row].items):
                    for name, scores in answer_of(asked[row], chance, self.model.tasks).items():
                        answers[name][row] = scores
        answers["unknown_events"] = [one.unknown for one in asked]
        answers["note"] = [
            note_on(answer) if len(one.items) else NO_EVENT
            for one, answer in zip(asked, answers[names[0]], strict=True)
        ]
        if params and params.get(EXPLAIN):
            answers["explanation"] = [self._explanation(one) for one in asked]
        return pd.DataFrame(answers, index=model_input.index)

    def _explanation(self, asked: Asked) -> Explanation | None:
        """What was read of the user of one request; None where nothing was."""
        return answer_explained(self.model, self.reader, asked, self.items)[1] if len(asked.items) else None

    def _read(self, model_input: pd.DataFrame) -> list[Asked]:
        names = [column.name for column in self.reader.columns if column.required]
        for name in names:
            if name not in model_input.columns:
                raise UserError(MODEL_INPUT, "column is missing", f"give {', '.join(names)}", name)
        return [self.reader.read(row, request) for row, request in enumerate(model_input.to_dict("records"))]


set_model(ServedRanker())
