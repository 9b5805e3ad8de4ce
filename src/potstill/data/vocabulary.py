"""Tokenizers trained on the data of a run, for models that start from random weights.

Both are byte-pair encodings (Sennrich et al. 2016, arXiv:1508.07909) on bytes: every text can be
written with them and comes back as it was. The same texts give the same tokenizer, which a run that
goes on relies upon (the unigram trainer of the `tokenizers` library draws lots, and is not offered
for that reason). Special tokens come first, so that their numbers are known.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from potstill.errors import DataError, RecipeError, need

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
"""Of language models: begins, ends and pads a text."""

PAD, END, BEGIN, UNKNOWN = "<pad>", "</s>", "<s>", "<unk>"
"""Of encoder-decoders, numbers 0 to 3. Nothing is unknown to bytes."""

_BYTES = 256


def train_bpe(texts: Sequence[str], *, vocabulary: int) -> "PreTrainedTokenizerBase":
    """A tokenizer for language models, with one special token.

    Args:
        texts: what pairs are counted in.
        vocabulary: how many tokens at most; texts with fewer pairs make fewer.

    Raises:
        RecipeError: fewer than 257 tokens.
        MissingExtra: Transformers is not installed.
    """
    if vocabulary <= _BYTES:
        raise RecipeError(
            f"`tokenizer: {{vocabulary: {vocabulary}}}` is too small: {_BYTES} bytes and a mark of "
            f"the end need {_BYTES + 1}."
        )
    made = _byte_pairs(texts, size=vocabulary, special=[END_OF_TEXT], prefix=False)
    wrapped: PreTrainedTokenizerBase = need("transformers", extra="text").PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )
    return wrapped


def train_tokenizer(texts: Sequence[str], *, size: int) -> "PreTrainedTokenizerBase":
    """A tokenizer for encoder-decoders; each text ends with the end token.

    Args:
        texts: of all languages together, so that they share one vocabulary.
        size: tokens at most, special ones and the 256 bytes among them.

    Raises:
        RecipeError: a size that leaves no room beside the bytes.
        DataError: no texts.
        MissingExtra: Transformers is not installed.
    """
    special = [PAD, END, BEGIN, UNKNOWN]
    if size <= _BYTES + len(special):
        raise RecipeError(
            f"`tokenizer: {{vocabulary: {size}}}` leaves no room beside {_BYTES} bytes and "
            f"{len(special)} special tokens; give some thousands."
        )
    if not texts:
        raise DataError("There are no texts to learn a vocabulary from; give training data.")
    made = _byte_pairs(texts, size=size, special=special, prefix=True)
    made.post_processor = need("tokenizers", extra="text").processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, special.index(END))]
    )
    wrapped: PreTrainedTokenizerBase = need("transformers", extra="text").PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=END,
        bos_token=BEGIN,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    return wrapped


def _byte_pairs(texts: Sequence[str], *, size: int, special: list[str], prefix: bool) -> Any:  # noqa: ANN401  (a tokenizer of the `tokenizers` library, which is an extra)
    tokenizers = need("tokenizers", extra="text")
    pieces = tokenizers.pre_tokenizers.ByteLevel
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pieces(add_prefix_space=prefix)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=sorted(pieces.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made
