"""What `results.json` says, as frozen records. Unknown keys are ignored, missing ones are empty.

Names and meanings are those of the run folder; a number that is not finite is read as absent.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

ROLES = ("teacher", "scratch", "distilled")


def _finite(value: object) -> object:
    """The mean of a summary, the number itself, or nothing if it is not finite."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(value: object) -> object:
    """Two finite ends, or nothing."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    return None if any(_finite(end) is None for end in value) else value


def _text(value: object) -> object:
    return "" if value is None else value


def _table(value: object) -> object:
    return {} if value is None else value


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[float | None, BeforeValidator(_finite)]
Interval = Annotated[tuple[float, float] | None, BeforeValidator(_interval)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Summary(_Record):
    """A figure over seeds. `std` and `ci95` are absent when there is one seed only."""

    mean: Number = None
    std: Number = None
    ci95: Interval = None
    values: tuple[Number, ...] = ()

    def known(self) -> tuple[float, ...]:
        """The values that are finite."""
        return tuple(value for value in self.values if value is not None)


Summaries = Annotated[dict[str, Summary], BeforeValidator(_table)]


class Latency(_Record):
    """Milliseconds of one call, and under which conditions."""

    p50: Number = None
    p95: Number = None
    p99: Number = None
    samples_per_second: Number = None
    batch: int | None = None
    threads: int | None = None
    engine: str = ""


class ClassResult(_Record):
    """One class against all others; the intervals of the shares speak of the test rows."""

    name: Text = ""
    support: int = 0
    prevalence: Number = None
    sensitivity: Summary = Summary()
    specificity: Summary = Summary()
    ppv: Summary = Summary()
    ece: Summary = Summary()
    mean_probability: Number = None


class RulesResult(_Record):
    """What a tree or a list of rules says, line by line."""

    kind: Text = ""
    rows: int = 0
    count: int = 0
    lines: tuple[str, ...] = ()


class Streaming(_Record):
    """What one chunk of a stream takes, milliseconds, and what share of its own time that is."""

    hop_ms: Number = None
    window_ms: Number = None
    look_ahead_ms: Number = None
    p50: Number = None
    p95: Number = None
    real_time_factor: Number = None


class ModelResult(_Record):
    """All figures of one role."""

    name: Text = ""
    description: Text = ""
    test: Summaries = {}
    test_last: Summaries = {}
    test_best: Summaries = {}
    calibration: Summaries = {}
    agreement: Summary | None = None
    agreement_gain: Summary | None = None
    per_class: tuple[ClassResult, ...] | None = None
    rules: RulesResult | None = None
    shipped_seed: int | None = None
    parameters: Number = None
    bytes: Number = None
    flops: Number = None
    train_seconds: Number = None
    energy_wh: Number = None
    co2_g: Number = None
    latency_ms: Latency | None = None
    streaming: Streaming | None = None
    best_epochs: tuple[Number, ...] | None = None
    selected_epochs: tuple[Number, ...] | None = None
    file: str | None = None
    file_bytes: Number = None


class Verdict(_Record):
    """Did the teacher help? `gain` is positive when the distilled student is the better one."""

    helped: Literal["yes", "no", "unclear"] = "unclear"
    sentence: Text = ""
    reason: Text = ""
    gain: Number = None
    gain_ci95: Interval = None
    p_value: Number = None
    gap_recovered: Number = None
    retention: Number = None
    agreement: Number = None
    speedup: Number = None
    compression: Number = None
    alpha: Number = None
    test: Text = ""


class DataFacts(_Record):
    """What the data are."""

    kind: str = ""
    name: str = ""
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    target_kind: str = "single_label"
    sampling_rate: int | None = None


class Finding(_Record):
    """A table of something that a run found out: groups, corrections, calibration."""

    title: Text = ""
    note: Text = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


class ChainLink(_Record):
    """A role, and who taught it; nobody taught the first."""

    role: str
    taught_by: str = ""


class ExitScore(_Record):
    """Of the samples that stop somewhere: how well they are answered, and for how many FLOPs."""

    threshold: Number = None
    accuracy: Summary = Summary()
    flops: Summary = Summary()


class RoleExits(_Record):
    """The exits of a role, the last layer last; the curve of thresholds; the one chosen."""

    exits: tuple[ExitScore, ...] = ()
    curve: tuple[ExitScore, ...] = ()
    chosen: ExitScore = ExitScore()


class Exits(_Record):
    """Early exits: after which layers, the FLOPs up to each, and figures by role."""

    layers: tuple[str, ...] = ()
    flops: tuple[float, ...] = ()
    models: dict[str, RoleExits] = {}


class Results(_Record):
    """The whole of `results.json`."""

    name: str = ""
    task: str = ""
    primary: str = ""
    higher_is_better: bool = True
    selected_by: str = ""
    selected_higher_is_better: bool = True
    seeds: tuple[int, ...] = ()
    models: dict[str, ModelResult] = {}
    verdict: Verdict | None = None
    chain: tuple[ChainLink, ...] = ()
    exits: Exits | None = None
    data: DataFacts = DataFacts()
    objective: Text = ""
    pairing: tuple[str, ...] = ()
    command: Text = ""
    created: Text = ""
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def selection(self) -> tuple[str, bool]:
        """The metric on the validation data that epochs are chosen by, and its direction."""
        if self.selected_by:
            return self.selected_by, self.selected_higher_is_better
        return self.primary, self.higher_is_better

    def roles(self) -> tuple[str, ...]:
        """The roles that have figures: teacher, scratch, distilled, then any others."""
        others = sorted(set(self.models) - set(ROLES))
        return tuple(role for role in (*ROLES, *others) if role in self.models)

    def selected_epochs(self) -> dict[str, dict[int, int]]:
        """Role → seed → the epoch that the seed's weights were taken from, where known."""
        return {
            role: {
                seed: int(epoch)
                for seed, epoch in zip(
                    self.seeds or (0,),
                    model.selected_epochs or model.best_epochs or (),
                    strict=False,
                )
                if epoch is not None
            }
            for role, model in self.models.items()
        }

    def score(self, role: str) -> Summary:
        """The primary metric of a role on the test data; empty if it was not measured."""
        return self.models.get(role, ModelResult()).test.get(self.primary, Summary())
