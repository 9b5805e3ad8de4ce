"""From a recipe to objects: the only package that knows both."""

from potstill.build.data import build_data
from potstill.build.experiment import build
from potstill.build.learning import build_objective, settings_of, storing_of
from potstill.build.models import made_model

__all__ = ["build", "build_data", "build_objective", "made_model", "settings_of", "storing_of"]
