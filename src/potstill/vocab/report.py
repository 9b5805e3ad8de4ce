"""What two vocabularies have in common, in numbers and sentences, before anything is trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from potstill.errors import DataError
from potstill.vocab.common import common_tokens, special_pairs
from potstill.vocab.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class VocabularyReport:
    """Sizes, what is common, and what becomes of special tokens.

    Args:
        student_tokens: how many tokens its tokenizer has.
        teacher_tokens: likewise.
        student_columns: of its head; more than tokens are padding.
        teacher_columns: likewise.
        same: every id means the same on both sides.
        common: tokens with equal bytes (or the same job, for special ones).
        special: names of the student's special tokens and what the teacher has in their place;
            `None` where it has nothing.
    """

    student_tokens: int
    teacher_tokens: int
    student_columns: int | None
    teacher_columns: int | None
    same: bool
    common: int
    special: Mapping[str, str | None]

    @property
    def student_coverage(self) -> float:
        """The share of the student's tokens that the teacher has."""
        return self.common / max(self.student_tokens, 1)

    @property
    def teacher_coverage(self) -> float:
        """The share of the teacher's tokens that the student has."""
        return self.common / max(self.teacher_tokens, 1)

    def to_json(self) -> dict[str, object]:
        """All numbers, with both coverages."""
        coverage = {"student": self.student_coverage, "teacher": self.teacher_coverage}
        return {**asdict(self), "special": dict(self.special), "coverage": coverage}

    def lines(self) -> list[str]:
        """The same in sentences."""
        said = [_widths("student", self.student_tokens, self.student_columns)]
        said.append(_widths("teacher", self.teacher_tokens, self.teacher_columns))
        if self.same:
            said.append("Both have the same tokens: distributions are compared id by id.")
            return said
        said.append(
            f"{self.common:,} tokens are common: {self.student_coverage:.1%} of the student's and "
            f"{self.teacher_coverage:.1%} of the teacher's. Texts are aligned by bytes."
        )
        missing = [name for name, partner in self.special.items() if partner is None]
        if missing:
            said.append(
                f"The teacher has nothing in place of {', '.join(missing[:8])}"
                f"{' and others' if len(missing) > 8 else ''}; name a partner in `markers`, or the "
                "student learns them from the data alone."
            )
        return said


def compare(
    student: Vocabulary,
    teacher: Vocabulary,
    *,
    student_columns: int | None = None,
    teacher_columns: int | None = None,
    markers: Mapping[str, str] | None = None,
) -> VocabularyReport:
    """The report for two vocabularies and the widths of the heads, as far as these are known.

    Raises:
        DataError: a marker is no special token.
    """
    same = student.same_as(teacher)
    pairs = special_pairs(student, teacher, markers=markers)
    names = {number: name for name, number in teacher.special.items()}
    mine, theirs = sum(1 for _ in student.tokens()), sum(1 for _ in teacher.tokens())
    try:
        common = mine if same else len(common_tokens(student, teacher, markers=markers))
    except DataError:
        common = 0  # nothing in common is what the report is there to say
    return VocabularyReport(
        student_tokens=mine,
        teacher_tokens=theirs,
        student_columns=student_columns,
        teacher_columns=teacher_columns,
        same=same,
        common=common,
        special={
            name: names.get(pairs[number], str(pairs[number])) if number in pairs else None
            for name, number in student.special.items()
        },
    )


def _widths(side: str, tokens: int, columns: int | None) -> str:
    text = f"The {side} has {tokens:,} tokens"
    if columns is None or columns == tokens:
        return f"{text}."
    if columns > tokens:
        return f"{text} and {columns:,} columns: {columns - tokens:,} are padding and left out."
    return f"{text} and only {columns:,} columns: its embeddings must be resized."
