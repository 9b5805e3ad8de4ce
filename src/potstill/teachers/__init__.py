"""Sources of signals: modules, ensembles, estimators, ONNX files, functions, stores, servers.

All are `Teacher`s.
"""

from potstill.teachers.adapter_off import AdapterOffTeacher
from potstill.teachers.api import ApiTeacher
from potstill.teachers.cross_tokenizer import CrossTokenizer
from potstill.teachers.ensemble import Combine, Ensemble
from potstill.teachers.estimator import EstimatorTeacher
from potstill.teachers.function import FunctionTeacher
from potstill.teachers.module import ModuleTeacher
from potstill.teachers.onnx import OnnxTeacher
from potstill.teachers.relabelled import Relabelled
from potstill.teachers.routed import Routed
from potstill.teachers.stored import StoredTeacher
from potstill.teachers.union import ClassUnion, Share
from potstill.teachers.views import ViewAverage

__all__ = [
    "AdapterOffTeacher",
    "ApiTeacher",
    "ClassUnion",
    "Combine",
    "CrossTokenizer",
    "Ensemble",
    "EstimatorTeacher",
    "FunctionTeacher",
    "ModuleTeacher",
    "OnnxTeacher",
    "Relabelled",
    "Routed",
    "Share",
    "StoredTeacher",
    "ViewAverage",
]
