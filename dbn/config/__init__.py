"""Options of every command and function: typed, checked on construction, without torch."""

from dbn.config.common import DataConfig, to_dict
from dbn.config.evaluation import EvaluateConfig
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.config.inference import PredictConfig, SampleConfig
from dbn.config.label_model import LabelModelConfig, LabelTraining
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.config.study import StudyConfig, StudyTraining

CONFIGS = {
    "pretrain": PretrainConfig,
    "label-model": LabelModelConfig,
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
    "LabelModelConfig",
    "LabelTraining",
    "PredictConfig",
    "PretrainConfig",
    "Pretraining",
    "SampleConfig",
    "StudyConfig",
    "StudyTraining",
    "to_dict",
]
