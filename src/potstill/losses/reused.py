"""SimKD: the student's last feature becomes the teacher's, whose classifier it then uses."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.errors import HandshakeError
from potstill.features.mapped import Pooled
from potstill.features.matcher import Matcher
from potstill.functional.distances import squared_error
from potstill.losses.features import FeatureTerm


@final
@dataclass(frozen=True, repr=False)
class SimKD(FeatureTerm):
    r"""Give the teacher's last feature, for a student that ships with the teacher's classifier.

    Formula: $\mathrm{mean}\,(P(f_s) - f_t)^2$ over all elements of a sample; P is the part
        `transfer` of the student (1×1, 3×3 and 1×1 convolutions). The larger grid is averaged down.
    Shapes: maps `[B, D, H, W]`, signals, tokens or vectors; the same D.
    Paper: Chen et al. 2022, arXiv:2203.14001. There a student with the larger grid is averaged down
        before P; here after it, so that it can be shipped without knowing the teacher's grid.
    Requires: a student with `head: teacher` (`potstill.models.ReusedHead`), whose `transfer` is the
        layer compared, and the teacher's layer before its pooling and classifier. No labels. What
        ships is larger by P and the teacher's classifier; `results.json` says by how much.
    Related: `Hint` throws its projector away.
    Example: `1 * SimKD("transfer", "layer3")`

    Args:
        student_layer: name of a module of the student, `transfer`.
        teacher_layer: name of a module of the teacher, or "auto": the partner of the student's.
        project: true or false; nothing is projected here.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: is not used.
    """

    @property
    def name(self) -> str:
        """The key of the log."""
        return "simkd"

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`; refuses other numbers of features."""
        made = Pooled(
            student,
            teacher,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
        )
        made.is_identity = True  # there is nothing to learn
        mine, theirs = made.arranged(student, teacher)
        if mine.shape[1] != theirs.shape[1]:
            raise HandshakeError(
                f"`simkd` needs as many features on both sides; the student's layer has "
                f"{mine.shape[1]}, the teacher's {theirs.shape[1]}. Give the student `head: "
                "teacher` and compare its layer `transfer` with what the teacher pools."
            )
        return made

    def sample_losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """As in `FeatureTerm`."""
        return squared_error(student, teacher).flatten(1).mean(dim=1)
