"""A run: its stages in order, each done once."""

from potstill.pipeline.experiment import (
    Chain,
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    GrowingSource,
    Keep,
    Learning,
    Link,
    MadeModel,
    Route,
    Sequences,
    TeacherSource,
    TrainedTeacher,
)
from potstill.pipeline.pipeline import Pipeline
from potstill.pipeline.run import Run

__all__ = [
    "Chain",
    "EnsembleSource",
    "EstimatorSource",
    "Experiment",
    "GivenTeacher",
    "GrowingSource",
    "Keep",
    "Learning",
    "Link",
    "MadeModel",
    "Pipeline",
    "Route",
    "Run",
    "Sequences",
    "TeacherSource",
    "TrainedTeacher",
]
