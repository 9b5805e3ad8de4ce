"""Chat templates of tokenizers: conversations as text, and where in it an answer stands."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from potstill.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, object]
"""With `role` (system, user, assistant) and `content`."""


def turn_of(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], number: int, whole: str
) -> tuple[int, int] | None:
    """From where to where a message of the assistant stands in the whole text."""
    before = rendered(tokenizer, messages[:number]) if number else ""
    handed_over = rendered(tokenizer, messages[:number], hand_over=True) if number else ""
    after = rendered(tokenizer, messages[: number + 1]).rstrip()
    low = _shared(handed_over, after)
    if not whole.startswith(after) or low < len(before.rstrip()):
        return None
    return low, len(after)


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def rendered(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, hand_over: bool = False
) -> str:
    """A conversation as the template writes it, with `hand_over` up to where the next answer is.

    Raises:
        DataError: no template, or one that cannot write these messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            "This tokenizer has no chat template, which conversations need; take one of a chat "
            "model, or give `prompt:` and `answer:` columns with a `template:`."
        )
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=hand_over
        )
    except Exception as error:  # whatever the template raises
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"The chat template cannot write {list(messages)[:2]!r} ({first}); each message needs "
            "`role` (system, user, assistant) and `content`."
        ) from error
    return cast("str", text)
