"""From documents or columns of a data set to rows of tokens with what is asked in them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from potstill.data.assembly import Raw, RawPart
from potstill.data.in_use import chosen_tokens
from potstill.data.language.conversations import (
    PLAIN,
    encoded_chat,
    encoded_pairs,
    encoded_texts,
)
from potstill.data.language.rows import Encoded, Rows, Table, lay_out
from potstill.data.options import Options, nearest
from potstill.data.samples import Kind
from potstill.data.sources.request import Request
from potstill.data.tokens import Tokens
from potstill.data.vocabulary import train_bpe
from potstill.errors import DataError, RecipeError
from potstill.vocab.templates import Message

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

OPTIONS = frozenset(
    {"tokenizer", "fetch_tokenizer", "vocabulary", "max_length", "rows", "answers_only"}
    | {"template", "prompt", "answer", "messages"}
)
Encode = Callable[[str, Tokens], list[Encoded]]
"""The texts of a part in a tokenizer's tokens."""

DEFAULT_LENGTH = 512
"""Tokens a row at most, where the user says nothing."""


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """How texts become rows, as the user says it.

    Args:
        rows: see `Rows`; blocks for plain texts, single for answers, where left out.
        length: tokens a row at most.
        answers_only: of instructions and chats, predict the model's own words alone.
        template: of instructions, how a prompt is written.
    """

    rows: Rows | None
    length: int
    answers_only: bool
    template: str

    @classmethod
    def parse(cls, options: Options) -> "Layout":
        """From plain values."""
        rows = options.text("rows", choices=[each.value for each in Rows])
        length = options.whole("max_length") or DEFAULT_LENGTH
        if length < 2:
            raise RecipeError(f"`max_length: {length}` leaves nothing to predict; give 2 or more.")
        return cls(
            rows=None if rows is None else Rows(rows),
            length=length,
            answers_only=options.flag("answers_only", default=True),
            template=options.text("template") or PLAIN,
        )


def read_documents(parts: Mapping[str, Sequence[str]], *, request: Request, name: str) -> Raw:
    """Plain texts by part, as rows of tokens; empty ones are left out.

    Raises:
        RecipeError: no tokenizer, or options that make no sense.
        DataError: a part without text.
    """
    layout = Layout.parse(request.options)
    how = layout.rows or Rows.BLOCKS
    parts = {part: [text for text in texts if text.strip()] for part, texts in parts.items()}
    tokenizer = _tokenizer(request.options, parts["train"])

    def encode(part: str, tokens: Tokens) -> list[Encoded]:
        return encoded_texts(tokens.tokenizer, parts[part], marks=how is not Rows.BLOCKS)

    return _raw(parts, encode, _tokens(tokenizer, request, encode, parts), how, layout, name=name)


def read_columns(parts: Mapping[str, "Dataset"], *, request: Request, name: str) -> Raw:
    """Columns of a data set: `inputs:` (plain texts), `prompt:` and `answer:`, or `messages:`.

    Raises:
        RecipeError: columns that do not go together.
        DataError: columns that are missing or hold something else.
    """
    options = request.options
    prompt, answer, messages = (options.text(key) for key in ("prompt", "answer", "messages"))
    if (prompt is None) != (answer is None):
        raise RecipeError("`prompt:` and `answer:` go together: name both columns.")
    if messages is not None:
        if prompt is not None:
            raise RecipeError("`messages:` holds whole conversations; leave `prompt:` out.")
        return _chats(parts, messages, request, name)
    if prompt is None or answer is None:
        columns = options.texts("inputs") or ("text",)
        if len(columns) > 1:
            raise RecipeError("Plain texts are one column; name it with `inputs:`.")
        texts = {part: _strings(data, columns[0], part=part) for part, data in parts.items()}
        return read_documents(texts, request=request, name=name)
    asked = {part: _strings(data, prompt, part=part) for part, data in parts.items()}
    said = {part: _strings(data, answer, part=part) for part, data in parts.items()}
    layout = Layout.parse(options)
    tokenizer = _tokenizer(options, [*asked["train"], *said["train"]])

    def encode(part: str, tokens: Tokens) -> list[Encoded]:
        return encoded_pairs(
            tokens.tokenizer,
            asked[part],
            said[part],
            template=layout.template,
            answers_only=layout.answers_only,
        )

    tokens = _tokens(tokenizer, request, encode, parts)
    return _raw(parts, encode, tokens, layout.rows or Rows.SINGLE, layout, name=name)


def _chats(parts: Mapping[str, "Dataset"], column: str, request: Request, name: str) -> Raw:
    layout = Layout.parse(request.options)
    if request.options.mapping_if("tokenizer") is not None:
        raise RecipeError("Chats need the chat template of a tokenizer; give `tokenizer: folder`.")
    tokenizer = _tokenizer(request.options, ())
    chats = {
        part: [_messages(row, column) for row in _column(data, column, part=part)]
        for part, data in parts.items()
    }

    def encode(part: str, tokens: Tokens) -> list[Encoded]:
        return [
            encoded_chat(tokens.tokenizer, chat, answers_only=layout.answers_only)
            for chat in chats[part]
        ]

    tokens = _tokens(tokenizer, request, encode, parts)
    how = layout.rows or Rows.SINGLE
    return _raw(parts, encode, tokens, how, layout, name=name, chats=chats)


def _tokens(
    tokenizer: "PreTrainedTokenizerBase", request: Request, encode: Encode, parts: Collection[str]
) -> Tokens:
    """The tokenizer, cut to the tokens in use if the options say so."""
    return chosen_tokens(
        Tokens(tokenizer, language=True),
        request.options,
        lambda tokens, part: np.concatenate([np.asarray(t.ids, int) for t in encode(part, tokens)]),
        parts,
    )


def _raw(
    names: Iterable[str],
    encode: Encode,
    tokens: Tokens,
    how: Rows,
    layout: Layout,
    *,
    name: str,
    chats: Mapping[str, Sequence[Sequence[Message]]] | None = None,
) -> Raw:
    parts = {part: encode(part, tokens) for part in names}
    if "transfer" in parts:
        raise DataError(
            "Language models learn from any text, so there is no unlabelled transfer part; give "
            "these texts as training data."
        )
    if how is Rows.BLOCKS and any(text.answers is not None for t in parts.values() for text in t):
        raise RecipeError("`rows: blocks` is for plain texts; choose `single` or `packed`.")
    notes, made = [], {}
    for part, texts in parts.items():
        table = lay_out(texts, how, length=layout.length, pad=tokens.pad)
        if not len(table.labels_NL):
            raise DataError(
                f"The {part} part asks for no token at all; give texts of two tokens or more, or "
                "a larger `max_length`."
            )
        if table.cut:
            notes.append(
                f"{table.cut} of {len(texts)} {part} texts are longer than {layout.length} tokens, "
                "and their end was left out."
            )
        if how is Rows.SINGLE and (silent := len(texts) - len(table.labels_NL)):
            notes.append(
                f"{silent} of {len(texts)} {part} texts have no answer within {layout.length} "
                "tokens and were left out."
            )
        made[part] = table
    longest = max(table.planes_NPL.shape[2] for table in made.values())
    return Raw(
        name=name,
        parts={
            part: RawPart(
                tokens.padded(table.planes_NPL, longest),
                tokens.unasked(table.labels_NL, longest),
                conversations=_rows_of(chats, part, table, how),
            )
            for part, table in made.items()
        },
        kind=Kind.TEXT,
        notes=tuple(notes),
        tokens=tokens,
        ordered=how is Rows.BLOCKS,
    )


def _rows_of(
    chats: Mapping[str, Sequence[Sequence[Message]]] | None, part: str, table: Table, how: Rows
) -> tuple[Sequence[Message], ...] | None:
    """The conversation of each row, where rows are one each."""
    if chats is None or how is not Rows.SINGLE:
        return None
    return tuple(chat for chat, asks in zip(chats[part], table.asks, strict=True) if asks)


def _tokenizer(options: Options, texts: Sequence[str]) -> "PreTrainedTokenizerBase":
    """The one that is named, or trained on the training texts."""
    wanted = options.mapping_if("tokenizer")
    if wanted is not None:
        checked = Options(wanted, known=("vocabulary",), owner="`tokenizer:`")
        return train_bpe(texts, vocabulary=checked.whole("vocabulary") or 0)
    name = options.text("tokenizer")
    if name is None:
        raise RecipeError(
            "Language models need a tokenizer: give `data.tokenizer`, a folder that holds one, or "
            "`data.tokenizer: {vocabulary: 2000}` to train one on the training texts."
        )
    return Tokens.load(name, fetch=options.flag("fetch_tokenizer"), language=True).tokenizer


def _messages(row: object, column: str) -> list[Message]:
    if isinstance(row, Sequence) and row and all(isinstance(each, Mapping) for each in row):
        return [{k: v for k, v in each.items() if v is not None} for each in row]
    raise DataError(
        f"Column `{column}` holds {row!r:.80} where a list of messages with `role` and `content` "
        "is expected; name another column with `messages:`."
    )


def _strings(data: "Dataset", column: str, *, part: str) -> list[str]:
    values = _column(data, column, part=part)
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        row = next(i for i, value in enumerate(values) if not isinstance(value, str))
        raise DataError(
            f"Column `{column}` of the {part} part holds {values[row]!r:.60} in row {row}, and a "
            "text is expected; fill or drop such rows, or name another column."
        )
    return texts


def _column(data: "Dataset", column: str, *, part: str) -> list[object]:
    if column not in data.column_names:
        raise DataError(
            f"The {part} part has no column `{column}`; {nearest(column, data.column_names)}"
        )
    values: list[object] = data.with_format("arrow")[:][column].to_pylist()
    if not values:
        raise DataError(f"The {part} part has no rows; give at least one.")
    return values
