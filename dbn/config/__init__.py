"""Options of every command and function: typed, checked on construction, without torch."""

from dbn.config.common import DataConfig, to_dict
from dbn.config.evaluation import EvaluateConfig
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.config.inference import PredictConfig, SampleConfig
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.config.study import StudyConfig, StudyTraining

CONFIGS = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "study": StudyConfig,
    "evaluate": EvaluateConfig,
    "sample": SampleConfig,
    "predict": PredictConfig,
}
"""The commands that read files of options, by name."""

__all__ = [
    "CONFIGS",
    "DataConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "Finetuning",
    "PredictConfig",
    "PretrainConfig",
    "Pretraining",
    "SampleConfig",
    "StudyConfig",
    "StudyTraining",
    "to_dict",
]
