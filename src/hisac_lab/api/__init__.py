"""The front door in Python: a log in, a comparison of models out, over the same functions as the stages.

    import hisac_lab as hl

    data = hl.load("movielens-100k").prepare()
    models = {"HiSAC": data.fit("hisac"), "DIN, last 50": data.fit("din", whole_history=False)}
    print(hl.evaluate(models, reference="DIN, last 50"))

Everything lies in a folder that goes with the objects, or in one that is named in `load`: there, what has been made of
the same inputs by the same settings and code is not made again.
"""

from hisac_lab.api.data import Data
from hisac_lab.api.evaluate import Comparison, evaluate
from hisac_lab.api.log import Log, load
from hisac_lab.api.model import Model
from hisac_lab.base.errors import UserError

__all__ = ["Comparison", "Data", "Log", "Model", "UserError", "evaluate", "load"]
