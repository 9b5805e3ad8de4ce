"""Who turns texts into numbers and back: a tokenizer of Hugging Face, from a folder or the hub."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError, need
from potstill.functional.tokens import IGNORED
from potstill.runtime.texts import NAMES, PAIRED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_LENGTH = 128
"""Tokens a text at most, where the user says nothing."""


@final
class Tokens:
    """A tokenizer: texts (or pairs of texts) to planes of numbers, and numbers to texts.

    Args:
        tokenizer: of Transformers; pads on the right from here on.
        language: of a language model, whose third plane says where tokens of packed texts stand.
    """

    kept: tuple[int, ...] | None = None
    """Of a tokenizer cut to the tokens in use, for each id the id that the token had."""
    before: int | None = None
    """How many tokens there were before the cut, if there was one."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, language: bool = False) -> None:
        tokenizer.padding_side = "right"
        self._tokenizer, self._language = tokenizer, language

    def cut(
        self, tokenizer: "PreTrainedTokenizerBase", kept: tuple[int, ...], *, before: int
    ) -> "Tokens":
        """The same with a smaller tokenizer; see `kept` and `before`."""
        smaller = Tokens(tokenizer, language=self._language)
        smaller.kept, smaller.before = kept, before
        return smaller

    @classmethod
    def load(cls, name: str, *, fetch: bool = False, language: bool = False) -> "Tokens":
        """The tokenizer in a local folder, or with `fetch` that of a hub id.

        Raises:
            DataError: there is none, or it has no token to pad with (unless `language`).
            MissingExtra: Transformers is not installed.
        """
        transformers = need("transformers", extra="text")
        if not fetch and not Path(name).is_dir():
            raise DataError(
                f"There is no folder `{name}` with a tokenizer; give one with `data.tokenizer`, or "
                "set `fetch_tokenizer: true` to fetch it from the hub."
            )
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=not fetch)
        except Exception as error:  # Transformers lets through whatever its parsers raise
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"`{name}` holds no tokenizer that Transformers reads ({first}); give another one "
                "with `data.tokenizer`."
            ) from error
        if tokenizer.pad_token_id is None and not language:
            raise DataError(
                f"The tokenizer `{name}` has no token to pad with, which batches need; choose a "
                "tokenizer of an encoder, or add a pad token to it."
            )
        return cls(tokenizer, language=language)

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """As Transformers has it."""
        return self._tokenizer

    @property
    def pad(self) -> int:
        """What stands in the padding, where the attention mask lets nobody see it."""
        marks = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0)
        return int(next(mark for mark in marks if mark is not None))

    def marks(self) -> dict[str, int]:
        """What a model that writes must know: what pads, what ends a text, what begins one."""
        pad, end = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        if end is None:
            raise DataError("The tokenizer has no token that ends a text, which writing one needs.")
        return {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}

    def same_as(self, other: "Tokens") -> bool:
        """Whether both give every token the same number."""
        return bool(self._tokenizer.get_vocab() == other.tokenizer.get_vocab())

    @property
    def size(self) -> int:
        """How many different tokens there are."""
        return len(self._tokenizer)

    def frame(self) -> tuple[int, ...]:
        """The special tokens around a text; the last one stands after it.

        Raises:
            DataError: it puts none around texts.
        """
        ids = tuple(int(number) for number in self._tokenizer("")["input_ids"])
        if not ids:
            raise DataError(
                "This tokenizer puts no special tokens around a text, and between them an encoder "
                "is asked about tokens: take one with special tokens, or leave `table` out."
            )
        return ids

    def padded(self, planes_NPL: NDArray[np.int32], length: int) -> NDArray[np.int32]:
        """The same texts with more padding, `length` positions in all."""
        num_texts, num_planes, had = planes_NPL.shape
        wider = np.zeros((num_texts, num_planes, length), dtype=np.int32)
        wider[:, 0] = self.pad
        if num_planes == PAIRED:
            wider[:, 2] = self.pad
        wider[:, :, :had] = planes_NPL
        return wider

    def unasked(self, labels_NL: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """The same questions with more positions at which nothing is asked."""
        more = length - labels_NL.shape[1]
        return np.pad(labels_NL, ((0, 0), (0, more)), constant_values=IGNORED)

    def planes(
        self, first: Sequence[str], second: Sequence[str] | None, *, max_length: int
    ) -> tuple[NDArray[np.int32], int]:
        """Planes `[N, P, L]` of texts or pairs, and how many of them were cut.

        P is 2 for texts, 3 for pairs (with token types); L is that of the longest. Of what is
        longer than `max_length` tokens the end is left out (of a pair, of the longer text).
        """
        given = (list(first),) if second is None else (list(first), list(second))
        whole = self._tokenizer(*given, truncation=False, verbose=False)["input_ids"]
        cut = sum(len(ids) > max_length for ids in whole)
        encoded = self._tokenizer(
            *given,
            truncation=True,
            max_length=max_length,
            padding="longest",
            return_attention_mask=True,
            return_token_type_ids=second is not None,
            return_tensors="np",
        )
        names = NAMES if second is not None else NAMES[:2]
        return np.stack([encoded[name] for name in names], axis=1).astype(np.int32), cut

    def words(
        self, sentences: Sequence[Sequence[str]], *, max_length: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
        """Planes `[N, 2, L]`, words `[N, L]`, and how many words have no token in them.

        Words hold the number of the word whose first token stands at a position, -1 elsewhere.

        Raises:
            DataError: the tokenizer does not say which token is of which word.
        """
        try:
            encoded = self._tokenizer(
                [list(sentence) for sentence in sentences],
                is_split_into_words=True,
                truncation=True,
                max_length=max_length,
                padding="longest",
                return_attention_mask=True,
                return_tensors="np",
            )
            numbers = [encoded.word_ids(row) for row in range(len(sentences))]
        except (AssertionError, ValueError) as error:
            raise DataError(
                f"This tokenizer takes no lists of words ({str(error).strip()[:200]}); choose a "
                "fast one, or one that was saved with `add_prefix_space`."
            ) from error
        words_NL = np.full(encoded["input_ids"].shape, -1, dtype=np.int64)
        for row, each in enumerate(numbers):
            for place, word in enumerate(each):
                if word is not None and (place == 0 or each[place - 1] != word):
                    words_NL[row, place] = word
        unread = sum(map(len, sentences)) - int((words_NL >= 0).sum())
        planes = np.stack([encoded[name] for name in NAMES[:2]], axis=1)
        return planes.astype(np.int32), words_NL, unread

    def texts(self, planes_NPL: NDArray[np.generic]) -> list[str]:
        """What people read: the tokens as a model sees them, without the special ones."""
        decoded = []
        for planes in planes_NPL:
            kept = planes[0][planes[1] > 0].tolist()
            parts = [kept]
            if len(planes) == PAIRED:
                parts.append(planes[2][planes[3] > 0].tolist())
            elif len(planes) > 2 and not self._language:
                kinds = planes[2][planes[1] > 0]
                parts = [[t for t, k in zip(kept, kinds, strict=True) if k == i] for i in (0, 1)]
            said = self.decode(parts)
            decoded.append(" | ".join(said))
        return decoded

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, for whoever runs the exported model."""
        self._tokenizer.save_pretrained(str(folder))

    def pairs(
        self, sources: Sequence[str], targets: Sequence[str], *, max_length: int
    ) -> tuple[NDArray[np.int32], int]:
        """Planes `[N, 4, L]` of texts and what is to be written for them, and how many were cut.

        The planes are the tokens read and where they stand, the tokens written (the end token
        among them) and where they stand; L is the length of the longest of all.
        """
        read = self._tokenizer(list(sources), verbose=False)["input_ids"]
        written = self._tokenizer(text_target=list(targets), verbose=False)["input_ids"]
        pairs = list(zip(read, written, strict=True))
        cut = sum(max(len(a), len(b)) > max_length for a, b in pairs)
        if cut:  # in the tokenizer's own way, which may keep an end token
            kwargs = {"truncation": True, "max_length": max_length}
            read = self._tokenizer(list(sources), **kwargs)["input_ids"]
        longest = min(max_length, max(max(len(a), len(b)) for a, b in pairs))
        planes = np.zeros((len(pairs), PAIRED, longest), dtype=np.int32)
        planes[:, 0::2] = self._tokenizer.pad_token_id
        for row, two in enumerate(zip(read, written, strict=True)):
            for side, ids in enumerate(two):
                kept = ids[:max_length]
                planes[row, 2 * side, : len(kept)] = kept
                planes[row, 2 * side + 1, : len(kept)] = 1
        return planes, cut

    def written(self, texts: Sequence[str], *, max_length: int) -> NDArray[np.int64]:
        """`[N, U]`, the tokens of texts that are to be written, the end token last, -100 behind.

        Of what is longer than `max_length` tokens the end is left out.
        """
        rows = [
            ids[:max_length] for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]
        ]
        found = np.full((len(rows), max(map(len, rows))), IGNORED, dtype=np.int64)
        for row, ids in enumerate(rows):
            found[row, : len(ids)] = ids
        return found

    def decode(self, ids_NL: Iterable[Sequence[int]]) -> list[str]:
        """The texts of some tokens, without the special ones."""
        rows = [list(ids) for ids in ids_NL]
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def retold(
        self, planes_NPL: NDArray[np.int32], targets: Sequence[str], *, length: int
    ) -> NDArray[np.int32]:
        """The same texts read, with other texts to be written, cut to `length` tokens."""
        told = planes_NPL.copy()
        told[:, 2], told[:, 3] = self._tokenizer.pad_token_id, 0
        for row, ids in enumerate(
            self._tokenizer(text_target=list(targets), verbose=False)["input_ids"]
        ):
            kept = ids[:length]
            told[row, 2, : len(kept)], told[row, 3, : len(kept)] = kept, 1
        return told
