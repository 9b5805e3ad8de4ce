"""Models by name: builtin, timm, torchvision, Hugging Face, a saved file, the user's own code."""

from potstill.models.builtin import builtin_names
from potstill.models.calibration import calibrated_config
from potstill.models.config import PURPOSES, ModelConfig
from potstill.models.create import create_model
from potstill.models.language_students import language_student_config
from potstill.models.reused import ReusedHead, last_linear, reused_config
from potstill.models.rule_students import DecisionTree, RuleList
from potstill.models.saved import load_model, save_model
from potstill.models.shrunken import shrunken_config
from potstill.models.single import load
from potstill.models.sources import available
from potstill.models.trimmed import cut_tokens, with_kept, without_kept

__all__ = [
    "PURPOSES",
    "DecisionTree",
    "ModelConfig",
    "ReusedHead",
    "RuleList",
    "available",
    "builtin_names",
    "calibrated_config",
    "create_model",
    "cut_tokens",
    "language_student_config",
    "last_linear",
    "load",
    "load_model",
    "reused_config",
    "save_model",
    "shrunken_config",
    "with_kept",
    "without_kept",
]
