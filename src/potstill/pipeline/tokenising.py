"""Teachers with a tokenizer of their own: read, wrapped, and reported before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from torch import nn

from potstill.data import DataSet
from potstill.data.tokens import Tokens
from potstill.errors import RecipeError
from potstill.protocols import Task, Teacher, TokenModel
from potstill.tasks import CausalLM
from potstill.teachers import CrossTokenizer
from potstill.vocab import Vocabulary, VocabularyReport, compare, turn_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class OtherTokens:
    """The tokenizer of a teacher whose tokens are not the student's.

    Args:
        tokenizer: the teacher's.
        markers: special tokens of the student and the teacher's in their place, by name.
    """

    tokenizer: "PreTrainedTokenizerBase"
    markers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls, name: str, *, fetch: bool, markers: Mapping[str, str], task: Task
    ) -> "OtherTokens":
        """The tokenizer in a folder, or with `fetch` that of a hub id.

        Raises:
            RecipeError: the task has no rows by token.
            DataError: there is no tokenizer.
        """
        if not isinstance(task, CausalLM):
            raise RecipeError(
                "`teacher.tokenizer` is for language models (task causal_lm), whose answers can be "
                "aligned; leave it out, and teacher and student read the same tokens."
            )
        return cls(
            tokenizer=Tokens.load(name, fetch=fetch, language=True).tokenizer, markers=markers
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The teacher's tokens."""
        return Vocabulary.of(self.tokenizer)

    @property
    def task(self) -> CausalLM:
        """How the teacher is called: as a language model of its own tokens."""
        return CausalLM(vocabulary=self.vocabulary.size)

    def around(self, teacher: Teacher, data: DataSet) -> CrossTokenizer:
        """The teacher, brought to the student's tokens.

        Raises:
            RecipeError: the data are no texts.
            DataError: a marker is unknown, or no token is common.
        """
        if data.tokens is None:
            raise RecipeError("`teacher.tokenizer` needs texts; these data are none.")
        markers = {**turn_ends(data.tokens.tokenizer, self.tokenizer), **self.markers}
        return CrossTokenizer(
            teacher,
            student_vocabulary=Vocabulary.of(data.tokens.tokenizer),
            teacher_vocabulary=self.vocabulary,
            encode=self._encode,
            num_classes=data.num_outputs,
            markers=markers if data.conversations else self.markers,
            tokenizer=self.tokenizer,
            conversations=data.conversations,
        )

    def _encode(self, text: str) -> Sequence[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def vocabulary_report(
    data: DataSet, student: nn.Module, teacher: Teacher, modules: Sequence[nn.Module]
) -> VocabularyReport | None:
    """What both know of each other's tokens; `None` where models do not choose tokens.

    Args:
        data: whose tokenizer is the student's.
        student: for the width of its head.
        teacher: with a tokenizer of its own or without.
        modules: of the teacher, for the width of its head.
    """
    if data.tokens is None or not isinstance(student, TokenModel):
        return None
    mine = Vocabulary.of(data.tokens.tokenizer)
    heads = [module.head.out_features for module in modules if isinstance(module, TokenModel)]
    own = teacher if isinstance(teacher, CrossTokenizer) else None
    return compare(
        mine,
        mine if own is None else own.vocabulary,
        student_columns=student.head.out_features,
        teacher_columns=heads[0] if heads else None,
        markers=None if own is None else own.markers,
    )
