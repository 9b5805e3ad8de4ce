"""A tokenizer trained in the run: byte-level BPE on the training texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.errors import RecipeError, need

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END = "<|endoftext|>"
FEWEST = 257
"""All bytes and the mark of the end."""


def train_bpe(texts: Sequence[str], *, vocabulary: int) -> "PreTrainedTokenizerBase":
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) of given texts.

    Every text can be written in it, since all 256 bytes are tokens. One mark serves as beginning,
    end and padding.

    Args:
        texts: what pairs are counted in.
        vocabulary: how many tokens at most; texts with fewer pairs make fewer.

    Raises:
        RecipeError: fewer than 257 tokens.
        MissingExtra: Transformers is not installed.
    """
    if vocabulary < FEWEST:
        raise RecipeError(
            f"`tokenizer: {{vocabulary: {vocabulary}}}` is too small: 256 bytes and a mark of the "
            f"end need {FEWEST}."
        )
    transformers = need("transformers", extra="text")
    tokenizers = need("tokenizers", extra="text")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer=trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=END, eos_token=END, pad_token=END
    )
