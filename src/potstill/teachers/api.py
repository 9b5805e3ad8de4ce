"""A language model behind an OpenAI-compatible server as teacher."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.errors import HandshakeError
from potstill.functional.tokens import IGNORED
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.remote import Client, Journal, Scorer, Scores, Server, Vocabulary, Way
from potstill.runtime.texts import MASK, PLACES
from potstill.signals import Batch, Signals, SparseLogits
from potstill.teachers.fingerprints import digest


class Question(NamedTuple):
    """A text, and from which of its places on the next token is asked for."""

    ids: tuple[int, ...]
    start: int


@final
class ApiTeacher(Teacher):
    """Asks a server for its likeliest next tokens in the given texts, each text once.

    Nothing is asked before the first batch. What was answered is kept (see `keep`) and never asked
    again, also by a run that was killed and goes on.

    Args:
        server: whom.
        vocabulary: the student's; both models must have the same tokenizer.
        top: how many log-probabilities of each place; the mass of the others is their tail.
        way: how the server is asked; found out if left out.
        version: names the weights, where the server may one day serve others under the same name.
    """

    def __init__(
        self,
        server: Server,
        vocabulary: Vocabulary,
        *,
        top: int = 20,
        way: Way | None = None,
        version: str = "",
    ) -> None:
        self.server, self.vocabulary, self.top = server, vocabulary, min(top, vocabulary.size)
        self._way, self._version = way, version
        self._scorer: Scorer | None = None
        self._client: Client | None = None
        self._journal: Journal | None = None
        self._path: Path | None = None
        self._memory: dict[str, Scores] = {}

    def keep(self, path: Path) -> None:
        """Keep answers in a file, and take those that it has; in memory if this is not called."""
        if self._path is None:
            self._path = path

    @property
    def path(self) -> Path | None:
        """The file of answers, if there is one."""
        return self._path

    def offers(self) -> Offers:
        """The log-probabilities of a few classes a row, and the tail."""
        return Offers(logits=LogitKind.SPARSE, num_classes=self.vocabulary.size)

    def fingerprint(self) -> str:
        """Digest of the model's name, the version given and `top`; a server tells no more."""
        return digest(["api", self.server.model, self._version, str(self.top)])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """One row for each position that is asked, as students give them.

        Raises:
            RemoteError: the server does not answer, or not with what is needed.
            HandshakeError: the batch is not one of a language model.
        """
        asked = _questions(batch)
        found = dict(self._answered(question for question, _ in asked))
        ids, logprobs = [], []
        for question, places in asked:
            scores = found[question]
            rows = np.asarray(places) - question.start
            ids.append(scores.ids_RK[rows])
            logprobs.append(scores.logprobs_RK[rows])
        return Signals(logits=self._logits(ids, logprobs).to_device(batch.inputs.device))

    def unanswered(self, batches: Iterable[Batch]) -> list[Question]:
        """What these batches ask and is not kept yet, each question once."""
        found = {q: None for batch in batches for q, _ in _questions(batch)}
        return [q for q in found if self._kept(self._key(q)) is None]

    def ask(self, questions: Iterable[Question]) -> Iterable[Question]:
        """Ask, several at once, and give out each question when its answer is kept."""
        for question, _ in self._answered(questions):
            yield question

    # Asking and keeping

    def _answered(self, questions: Iterable[Question]) -> Iterable[tuple[Question, Scores]]:
        missing = []
        for question in dict.fromkeys(questions):
            kept = self._kept(self._key(question))
            if kept is None:
                missing.append(question)
            else:
                yield question, kept
        if missing:
            client, scorer = self._ready()

            def asked(question: Question) -> Scores:
                scores = scorer.scores(question.ids, start=question.start)
                self._put(self._key(question), scores)
                return scores

            try:
                yield from client.each(missing, asked)
            finally:
                client.close()  # the next questions may be an epoch away

    def _ready(self) -> tuple[Client, Scorer]:
        if self._scorer is None or self._client is None:
            with Client(self.server) as client:
                self._scorer = Scorer(client, self.vocabulary, top=self.top, way=self._way)
            self._client = client
        return self._client, self._scorer

    def _key(self, question: Question) -> str:
        about = f"{self.server.model}\n{self._version}\n{self.top} {self.vocabulary.size} "
        text = about + f"{question.start} {' '.join(map(str, question.ids))}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _kept(self, key: str) -> Scores | None:
        if self._path is None:
            return self._memory.get(key)
        if self._journal is None:
            self._journal = Journal(self._path)
        found = self._journal.get(key)
        return None if found is None else Scores.from_json(found)

    def _put(self, key: str, scores: Scores) -> None:
        if self._journal is None:
            self._memory[key] = scores
        else:
            self._journal.put(key, scores.to_json())

    def _logits(
        self, ids: Sequence[NDArray[np.int32]], logprobs: Sequence[NDArray[np.float32]]
    ) -> "_Rows":
        nothing = np.zeros((0, self.top), np.float32)
        return _Rows(
            np.concatenate([nothing.astype(np.int32), *ids]),
            np.concatenate([nothing, *logprobs]),
            self.vocabulary.size,
        )


class _Rows(NamedTuple):
    ids_NK: NDArray[np.int32]
    logprobs_NK: NDArray[np.float32]
    num_classes: int

    def to_device(self, device: torch.device) -> SparseLogits:
        """As a record of tensors; kept mass and tail make 1, also where rounding says more."""
        logprobs_NK = self.logprobs_NK.astype(np.float64)
        mass_N = np.exp(logprobs_NK).sum(1)
        logprobs_NK -= np.log(np.maximum(mass_N, 1.0))[:, None]
        return SparseLogits(
            ids_NK=torch.from_numpy(self.ids_NK.astype(np.int64)).to(device),
            logprobs_NK=torch.from_numpy(logprobs_NK.astype(np.float32)).to(device),
            tail_N=torch.from_numpy(np.maximum(1.0 - mass_N, 0.0).astype(np.float32)).to(device),
            num_classes=self.num_classes,
            temperature=1.0,
        )


def _questions(batch: Batch) -> list[tuple[Question, list[int]]]:
    """Each text of a batch, and the places in it that are asked, in the order of the rows."""
    labels = batch.labels
    if labels is None or labels.ndim != 2 or batch.inputs.ndim != 3:
        raise HandshakeError(
            "A language model behind a server answers about texts with labels by position (task "
            "causal_lm); for other tasks take its answers as texts (`potstill generate`)."
        )
    found = []
    planes_BPL, labels_BL = batch.inputs.long().cpu(), labels.cpu()
    for planes, asked in zip(planes_BPL.tolist(), labels_BL.tolist(), strict=True):
        for begin, end in _texts(planes):
            places = [p for p in range(begin, end) if asked[p] != IGNORED]
            if places:
                ids = planes[0][begin:end]
                if places[-1] == end - 1:  # a block of a longer text: its last token has a next one
                    ids = [*ids, asked[end - 1]]
                local = [p - begin for p in places]
                found.append((Question(tuple(ids), local[0]), local))
    return found


def _texts(planes: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Where the texts of a row begin and end; several of them only in packed rows."""
    length = sum(planes[MASK])
    if len(planes) <= PLACES:
        return [(0, length)]
    starts = [at for at in range(length) if planes[PLACES][at] == 0]
    return list(zip(starts, [*starts[1:], length], strict=True))
