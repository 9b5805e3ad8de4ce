"""A run: stages in order, each done once: teacher → scratch → distilled → measure → export → report."""

from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    Learning,
    MadeModel,
    TeacherSource,
    TrainedTeacher,
)
from potstill.pipeline.pipeline import Pipeline
from potstill.pipeline.run import Run

__all__ = [
    "EnsembleSource",
    "EstimatorSource",
    "Experiment",
    "GivenTeacher",
    "Learning",
    "MadeModel",
    "Pipeline",
    "Run",
    "TeacherSource",
    "TrainedTeacher",
]
