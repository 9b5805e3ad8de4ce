"""A teacher that reads the student's texts in its own tokens.

Shapes: B samples, L positions, N student rows, M teacher rows (positions that are asked something).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.tokens import IGNORED
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.runtime.texts import MASK, PLACES
from potstill.signals import Batch, ForeignLogits, LazyLogits, Logits, Signals, Spans
from potstill.teachers.fingerprints import digest
from potstill.vocab import (
    ChatInterpreter,
    Interpreter,
    Retold,
    Vocabulary,
    common_tokens,
    first_classes,
)
from potstill.vocab.templates import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REMEMBERED = 100_000  # texts whose tokens are kept


class _Text(NamedTuple):
    """One of the texts of a batch.

    Args:
        sample: in which row of the batch it is.
        start: at which position it begins there.
        retold: the same for the teacher.
    """

    sample: int
    start: int
    retold: Retold


@final
class CrossTokenizer(Teacher):
    """`teacher` with another tokenizer, for students whose tokens it does not know.

    Each text of a batch is decoded, tokenised for the teacher, and aligned by bytes; the answers
    come as `ForeignLogits`, for the terms `CrossTokenizerKD` and `ULD`. Packed texts are taken
    apart for the teacher. Where the alignment finds no partner, rows have no loss.

    Args:
        teacher: answers batches of its own tokens, one row for each position with a label.
        student_vocabulary: of the batches.
        teacher_vocabulary: of the teacher.
        encode: the teacher's tokenizer: text to ids, without special tokens.
        num_classes: columns of the student's logits; its number of tokens if left out.
        markers: special tokens of the student and the teacher's in their place, by name.
        tokenizer: the teacher's as a whole. If it has a chat template, conversations are written
            in it, and only the contents of answers and the marks behind them are compared.
        conversations: messages of samples that are one chat each, by identity.

    Raises:
        DataError: a marker is unknown, or no token is common.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        student_vocabulary: Vocabulary,
        teacher_vocabulary: Vocabulary,
        encode: Callable[[str], Sequence[int]],
        num_classes: int | None = None,
        markers: Mapping[str, str] | None = None,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        conversations: Mapping[int, Sequence[Message]] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        mine, theirs = student_vocabulary, teacher_vocabulary
        self._teacher, self._theirs, self.markers = teacher, theirs, dict(markers or {})
        self._common = common_tokens(mine, theirs, markers=markers)
        self._interpreter = Interpreter(mine, theirs, encode=encode, markers=markers)
        self._chats: ChatInterpreter | None = None
        if conversations and tokenizer is not None and tokenizer.chat_template:
            self._chats = ChatInterpreter(mine, theirs, tokenizer)
        self._conversations = conversations or {}
        self._num_classes = mine.size if num_classes is None else num_classes
        template = "" if self._chats is None or tokenizer is None else tokenizer.chat_template
        self._fingerprint = [
            str(template),
            mine.fingerprint(),
            theirs.fingerprint(),
            repr(self.markers),
        ]
        self._known: dict[tuple[bytes, bytes, int], Retold] = {}
        marks = (theirs.roles.get("pad"), theirs.roles.get("eos"), 0)
        self._padding = next(mark for mark in marks if mark is not None)

    @property
    def inner(self) -> Teacher:
        """The teacher that is asked."""
        return self._teacher

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the teacher that is asked."""
        return self._theirs

    def around(self, teacher: Teacher) -> "CrossTokenizer":
        """The same around another form of the teacher."""
        other = object.__new__(CrossTokenizer)
        other.__dict__.update(self.__dict__, _teacher=teacher)
        return other

    def offers(self) -> Offers:
        """Logits of other tokens, for as many classes as the student has; no layers."""
        return Offers(logits=LogitKind.FOREIGN, num_classes=self._num_classes)

    def fingerprint(self) -> str:
        """The teacher's, both vocabularies' and the markers'."""
        return digest([self._teacher.fingerprint(), *self._fingerprint])

    def to(self, device: torch.device) -> Self:
        """Move the teacher and the map of tokens."""
        self._teacher.to(device)
        self._common = self._common.to(device)
        return self

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The teacher's logits for its own tokens of the batch's texts, and how rows belong.

        Raises:
            HandshakeError: the batch has no tokens with labels, or layers are asked for.
        """
        if batch.labels is None or batch.labels.ndim != 2 or batch.inputs.ndim != 3:
            raise HandshakeError(
                "A teacher with another tokenizer needs texts with a label for each position; use "
                "a task with one row a token, such as causal_lm."
            )
        if layers:
            raise HandshakeError(
                "A teacher with another tokenizer has other positions than the student, so its "
                f"layers cannot be compared; leave out the terms on {', '.join(layers)}."
            )
        device = batch.inputs.device
        texts = self._texts(batch)
        asked = self._batch(texts, device)
        taught = self._teacher.signals(asked).logits
        if taught is not None:
            taught = first_classes(taught, self._theirs.size)
        if not isinstance(taught, Logits | LazyLogits):
            raise HandshakeError(
                "A teacher with another tokenizer must give logits of all its tokens; a store or "
                "a server that keeps the best ones cannot be brought to the student's."
            )
        assert asked.labels is not None
        spans = _spans(texts, batch.labels.cpu(), asked.labels.cpu())
        return Signals(
            logits=ForeignLogits(
                taught,
                spans if device.type == "cpu" else _moved(spans, device),
                self._common.to(device),
                num_rows=int((batch.labels != IGNORED).sum()),
                num_classes=self._num_classes,
            )
        )

    def _texts(self, batch: Batch) -> list[_Text]:
        """All texts of the batch, in the teacher's tokens."""
        assert batch.labels is not None
        planes_BPL, labels_BL = batch.inputs.cpu(), batch.labels.cpu()
        ids = [-1] * len(planes_BPL) if batch.ids is None else batch.ids.tolist()
        texts = []
        for sample, (planes_PL, labels_L) in enumerate(zip(planes_BPL, labels_BL, strict=True)):
            length = int(planes_PL[MASK].sum())
            starts = [0]
            if len(planes_PL) > PLACES:
                starts = (planes_PL[PLACES, :length] == 0).nonzero()[:, 0].tolist()
            wanted_L = torch.cat([torch.zeros(1, dtype=torch.bool), labels_L[:-1] != IGNORED])
            for start, stop in pairwise([*starts, length]):
                part = slice(start, stop)
                told = self._retold(planes_PL[0, part], wanted_L[part], ids[sample])
                texts.append(_Text(sample, start, told))
        return texts

    def _retold(self, ids_L: Tensor, wanted_L: Tensor, sample: int) -> Retold:
        """A text for the teacher; of a sample that is a conversation in the teacher's template."""
        key = (ids_L.numpy().tobytes(), wanted_L.numpy().tobytes(), sample)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            ids, wanted = ids_L.tolist(), wanted_L.tolist()
            told, messages = None, self._conversations.get(sample)
            if self._chats is not None and messages:
                told = self._chats.retell(ids, wanted, messages)
            self._known[key] = told or self._interpreter.retell(ids, wanted)
        return self._known[key]

    def _batch(self, texts: Sequence[_Text], device: torch.device) -> Batch:
        """One sample a text, padded on the right, with labels where something is wanted."""
        longest = max([len(text.retold.ids) for text in texts] + [1])
        planes = torch.zeros(len(texts), 2, longest, dtype=torch.int64)
        planes[:, 0] = self._padding
        labels = torch.full((len(texts), longest), IGNORED)
        for number, (_, _, retold) in enumerate(texts):
            size = len(retold.ids)
            ids = torch.tensor(retold.ids, dtype=torch.int64)
            planes[number, 0, :size], planes[number, MASK, :size] = ids, 1
            wanted = torch.tensor(retold.wanted, dtype=torch.bool)
            labels[number, : max(size - 1, 0)] = torch.where(wanted[1:], ids[1:], IGNORED)
        planes, labels = planes.to(device), labels.to(device)
        return Batch(inputs=planes, labels=labels, positions=planes[:, MASK].bool())


def _spans(texts: Sequence[_Text], labels_BL: Tensor, their_labels_TL: Tensor) -> Spans:
    """All spans of a batch as rows of both sides; rows are the positions asked, in order."""
    rows_BL, their_rows_TL = _row_numbers(labels_BL), _row_numbers(their_labels_TL)
    found: list[tuple[list[int], list[int], list[int], list[int]]] = []
    for number, (sample, start, retold) in enumerate(texts):
        mine, theirs = rows_BL[sample].tolist(), their_rows_TL[number].tolist()
        labels, their_labels = labels_BL[sample].tolist(), their_labels_TL[number].tolist()
        for (a, b), (c, d) in retold.spans:
            if a == 0 or c == 0:  # nobody predicts the first token of a text
                continue
            places, their_places = range(start + a - 1, start + b - 1), range(c - 1, d - 1)
            found.append(
                (
                    [mine[p] for p in places],
                    [labels[p] for p in places],
                    [theirs[p] for p in their_places],
                    [their_labels[p] for p in their_places],
                )
            )
    columns = list(zip(*found, strict=True)) or [(), (), (), ()]
    return Spans(*(_padded(column) for column in columns))


def _row_numbers(labels_BL: Tensor) -> Tensor:
    asked_BL = labels_BL != IGNORED
    return (asked_BL.flatten().cumsum(0) - 1).reshape(labels_BL.shape)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows), default=1)
    values = [[*row, *[-1] * (width - len(row))] for row in rows]
    return torch.tensor(values, dtype=torch.int64).reshape(len(rows), width)


def _moved(spans: Spans, device: torch.device) -> Spans:
    return Spans(
        spans.student_rows_SA.to(device),
        spans.student_ids_SA.to(device),
        spans.teacher_rows_SB.to(device),
        spans.teacher_ids_SB.to(device),
    )
