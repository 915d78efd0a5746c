"""Settings of the evaluation that tests look at."""

from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.model import ExperimentConfig

CONFIG = EvaluateConfig(reference="din_50", bootstrap=30, top=3, slices=3)
EXPERIMENT = ExperimentConfig(models=("din_50", "hisac"), seeds=(0, 1))
