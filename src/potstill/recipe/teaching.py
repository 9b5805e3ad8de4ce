"""Teachers, one or several, and the models between them and the student."""

from typing import Literal

from pydantic import Field

from potstill.recipe.forms import Strict
from potstill.recipe.learning import LearnSpec, StepSpec, TermSpec
from potstill.recipe.models import ModelSpec


class MemberSpec(Strict):
    """A teacher: a model, trained in the run if `train` is given."""

    model: ModelSpec = Field(description="Which model.")
    train: LearnSpec | None = Field(
        None, description="How the run trains it; as it is, if left out."
    )
    label_map: tuple[int, ...] | None = Field(
        None, description="For each of the student's classes the teacher's number."
    )
    classes: tuple[int, ...] | None = Field(
        None,
        description="In an ensemble: the student's classes that this one knows, in its order; it "
        "is trained on their samples alone.",
    )
    tokenizer: str | None = Field(
        None,
        description="Folder or hub id, of a language model with other tokens than the student.",
    )
    markers: dict[str, str] = Field(
        default_factory=dict,
        description="Special tokens of the student, and the teacher's in their place.",
    )


class RouteSpec(Strict):
    """Which teacher of an ensemble each sample names: by a column of tables, or by a file."""

    feature: str | int | None = Field(
        None, description="Of tables: a column, by name or by number from 0."
    )
    values: tuple[float, ...] = Field(
        (), description="The feature's value for each teacher, in order."
    )
    path: str | None = Field(
        None,
        description="A `.npy` file: for each row of the data (train, validation, test, transfer, "
        "in that order) the number of its teacher, from 0.",
    )


class LookSpec(Strict):
    """Test-time augmentation: the mean of the teacher's answers over an input and views of it."""

    views: int = Field(8, ge=1, description="Beside the input itself.")
    augment: tuple[StepSpec, ...] = Field(min_length=1, description="What makes a view.")


class AverageSpec(Strict):
    """The student's own moving average as teacher. See `potstill.train.MeanTeacher`."""

    decay: float = Field(0.99, gt=0, lt=1, description="Of the average, a step.")
    ramp: float = Field(
        0.25, ge=0, le=1, description="Share of all steps in which its terms reach their weight."
    )


class PeerSpec(Strict):
    """A student that learns beside the student, from it and for it."""

    model: ModelSpec = Field(description="Which model.")


class TaughtSpec(LearnSpec):
    """How an assistant learns."""

    objective: tuple[TermSpec, ...] | None = Field(None, description="The student's, if left out.")


class AssistantSpec(Strict):
    """A model between teacher and student."""

    model: ModelSpec = Field(description="Which model.")
    distill: TaughtSpec | None = Field(None, description="As the student, if left out.")


class ChainSpec(Strict):
    """Models between teacher and student, each taught by the one before."""

    assistants: tuple[AssistantSpec, ...] = Field((), description="In order.")
    generations: int | None = Field(
        None,
        ge=1,
        description="Instead: so many students in turn, each the teacher of the next; the last "
        "ones are the distilled students.",
    )
    direct: bool = Field(False, description="Train students of the teacher itself, to compare.")
    together: bool = Field(
        False, description="Measure the mean of all links and the student as well."
    )


class TeacherSpec(Strict):
    """One model, an ensemble of several, the student's own average, or peers of it."""

    model: ModelSpec | None = Field(None, description="Which model, of one teacher.")
    train: LearnSpec | None = Field(
        None, description="How the run trains it; as it is, if left out."
    )
    label_map: tuple[int, ...] | None = Field(
        None, description="For each of the student's classes the teacher's number."
    )
    tokenizer: str | None = Field(
        None,
        description="Folder or hub id, of a language model with other tokens than the student.",
    )
    markers: dict[str, str] = Field(
        default_factory=dict,
        description="Special tokens of the student, and the teacher's in their place.",
    )
    ensemble: tuple[MemberSpec, ...] = Field((), description="Several teachers instead of one.")
    route: RouteSpec | None = Field(
        None, description="Of an ensemble: each sample is answered by the teacher that it names."
    )
    average: AverageSpec | None = Field(
        None, description="Instead of a model: the moving average of the student."
    )
    peers: tuple[PeerSpec, ...] = Field(
        (), description="Instead of a model: students that learn beside it (mutual learning)."
    )
    combine: Literal["probabilities", "logits"] = Field(
        "probabilities", description="Of an ensemble: the mean of probabilities, or of logits."
    )
    weights: tuple[float, ...] | None = Field(
        None, description="Of an ensemble: how much each one counts; alike if left out."
    )
    confidence: bool = Field(
        False, description="Of an ensemble: the surer of a sample counts more."
    )
    width: int | None = Field(
        None,
        ge=1,
        description="Of embeddings: their main directions alone, so many (PCA of training texts).",
    )
    tta: LookSpec | None = Field(None, description="Test-time augmentation of the whole teacher.")
    calibrate: bool = Field(
        False, description="Divide its logits by the temperature that suits the validation data."
    )

    def members(self) -> tuple[MemberSpec, ...]:
        """The teachers, one or several."""
        if self.model is None:
            return self.ensemble
        own = MemberSpec(
            model=self.model,
            train=self.train,
            label_map=self.label_map,
            tokenizer=self.tokenizer,
            markers=self.markers,
        )
        return (own,)


class StudentSpec(Strict):
    """The small model."""

    model: ModelSpec = Field(description="Which model.")
    head: Literal["own", "teacher"] = Field(
        "own",
        description="teacher: ship a projector and the teacher's classifier in place of its own, "
        "for the term simkd; results name the parameters that this adds.",
    )
