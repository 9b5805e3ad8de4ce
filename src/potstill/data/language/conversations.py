"""Instructions and chats as tokens, and which of the tokens are the model's own words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from potstill.data.language.rows import Encoded
from potstill.errors import DataError
from potstill.vocab.templates import Message, rendered, turn_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = "{prompt}"


def beginning(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What the tokenizer puts before a text (a mark of the beginning), if anything."""
    marks: list[int] = list(tokenizer("")["input_ids"])
    ends = {tokenizer.eos_token_id, getattr(tokenizer, "sep_token_id", None)} - {None}
    if marks and marks[-1] in ends and tokenizer.bos_token_id not in ends:
        marks.pop()
    return marks


def ending(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The mark of the end, if the tokenizer has one."""
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]


def encoded_texts(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, marks: bool
) -> list[Encoded]:
    """Plain texts, each with its marks of beginning and end, or (blocks) with that of the end."""
    first, last = beginning(tokenizer) if marks else [], ending(tokenizer)
    return [Encoded([*first, *ids, *last]) for ids in _plain_ids(tokenizer, texts)]


def encoded_pairs(
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    template: str,
    answers_only: bool,
) -> list[Encoded]:
    """A prompt in its template, the answer after it, and the mark of the end.

    Both are tokenised on their own, as they are when the model is asked.

    Raises:
        DataError: the template has no place for the prompt.
    """
    if "{prompt}" not in template:
        raise DataError(f"`template: {template!r}` has no {{prompt}} in it; say where it goes.")
    first, last = beginning(tokenizer), ending(tokenizer)
    asked = _plain_ids(tokenizer, [template.replace("{prompt}", text) for text in prompts])
    said = _plain_ids(tokenizer, answers)
    made = []
    for question, answer in zip(asked, said, strict=True):
        given = [*first, *question]
        own = [*answer, *last]
        flags = [False] * len(given) + [True] * len(own) if answers_only else None
        made.append(Encoded([*given, *own], flags))
    return made


def encoded_chat(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, answers_only: bool
) -> Encoded:
    """A conversation in the tokenizer's chat template; the assistant's turns are the answers.

    A turn reaches from where the template hands over to the assistant to the mark that ends the
    turn. Turns that the template writes otherwise once the conversation has gone on (thoughts that
    are left out, for example) are not asked for.

    Raises:
        DataError: no template, an odd message, or a template whose turns cannot be told apart.
    """
    whole = rendered(tokenizer, messages)
    told = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=answers_only)
    ids: list[int] = list(told["input_ids"])
    if not answers_only:
        return Encoded(ids)
    turns = [
        turn
        for number, message in enumerate(messages)
        if message.get("role") == "assistant"
        and (turn := turn_of(tokenizer, messages, number, whole)) is not None
    ]
    if not turns:
        raise DataError(
            "The chat template of this tokenizer does not let the assistant's words be told from "
            "the others'; set `answers_only: false`, or give `prompt:` and `answer:` columns."
        )
    begins = [begin for begin, _ in told["offset_mapping"]]
    return Encoded(ids, [any(low <= b < high for low, high in turns) for b in begins])


def _plain_ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    told = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return cast("list[list[int]]", told["input_ids"])
