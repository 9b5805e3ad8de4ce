"""Loggers that figures are also sent to, when asked: TensorBoard, MLflow, Weights & Biases."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from lightning_fabric.loggers.logger import Logger, rank_zero_experiment

from potstill.errors import need


def make_loggers(names: Sequence[str], *, run: str, folder: Path) -> list[Logger]:
    """One Fabric logger a name. MLflow writes below `folder` unless its own settings say else."""
    return [_make(name, run, folder) for name in names]


def _make(name: str, run: str, folder: Path) -> Logger:
    if name == "tensorboard":
        need("tensorboard", extra="track")
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        return TensorBoardLogger(root_dir=folder, name="tensorboard", version="")
    if name == "mlflow":
        return MlflowLogger(run, folder)
    return WandbLogger(run, folder)


@final
class MlflowLogger(Logger):
    """Figures to MLflow; its tracking server is taken from its own environment variables."""

    def __init__(self, run: str, folder: Path) -> None:
        self._mlflow = need("mlflow", extra="track")
        self._run, self._folder = run, folder
        self._experiment: Any = None

    @property
    def name(self) -> str:
        """Of the run."""
        return self._run

    @property
    def version(self) -> str:
        """Of the run."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401  (an MLflow run)
        """The active MLflow run."""
        if self._experiment is None:
            if not self._mlflow.is_tracking_uri_set():
                self._mlflow.set_tracking_uri(f"sqlite:///{(self._folder / 'mlflow.db').resolve()}")
            self._mlflow.set_experiment("potstill")
            self._experiment = self._mlflow.start_run(run_name=self._run)
        return self._experiment

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send figures."""
        if self.experiment is not None:
            self._mlflow.log_metrics(metrics, step=step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Send settings."""
        if self.experiment is not None:
            self._mlflow.log_params(vars(params) if isinstance(params, Namespace) else params)

    def finalize(self, status: str) -> None:
        """Close the run."""
        if self._experiment is not None:
            self._mlflow.end_run()


@final
class WandbLogger(Logger):
    """Figures to Weights & Biases."""

    def __init__(self, run: str, folder: Path) -> None:
        self._wandb = need("wandb", extra="track")
        self._run, self._folder = run, folder
        self._experiment: Any = None

    @property
    def name(self) -> str:
        """Of the run."""
        return self._run

    @property
    def version(self) -> str:
        """Of the run."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401  (a wandb run)
        """The active run."""
        if self._experiment is None:
            self._experiment = self._wandb.init(
                project="potstill", name=self._run, dir=str(self._folder)
            )
        return self._experiment

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send figures."""
        if self.experiment is not None:
            self.experiment.log({**metrics, "step": step})

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Send settings."""
        if self.experiment is not None:
            self.experiment.config.update(params)

    def finalize(self, status: str) -> None:
        """Close the run."""
        if self._experiment is not None:
            self._experiment.finish()
