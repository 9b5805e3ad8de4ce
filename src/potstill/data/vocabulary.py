"""A tokenizer trained on the data of the run, for models that start from random weights.

Special tokens come first, so that their numbers are known: 0 pads, 1 ends a text, 2 begins one, 3
stands for what the vocabulary lacks, which on bytes is nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.errors import DataError, RecipeError, need

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, END, BEGIN, UNKNOWN = "<pad>", "</s>", "<s>", "<unk>"
_BYTES = 256


def train_tokenizer(texts: Sequence[str], *, size: int) -> "PreTrainedTokenizerBase":
    """Byte-pair encoding learnt from texts (Sennrich et al. 2016, arXiv:1508.07909), on bytes.

    Every text can be written with it and comes back as it was; each ends with the end token. The
    same texts give the same tokenizer, which a run that goes on relies upon (the unigram trainer of
    the `tokenizers` library draws lots, and is not offered for that reason).

    Args:
        texts: of all languages together, so that they share one vocabulary.
        size: tokens at most, special ones and the 256 bytes among them.

    Raises:
        RecipeError: a size that leaves no room beside the bytes.
        DataError: no texts.
        MissingExtra: Transformers is not installed.
    """
    tokenizers = need("tokenizers", extra="text")
    transformers = need("transformers", extra="text")
    special = [PAD, END, BEGIN, UNKNOWN]
    if size <= _BYTES + len(special):
        raise RecipeError(
            f"`tokenizer: {{vocabulary: {size}}}` leaves no room beside {_BYTES} bytes and "
            f"{len(special)} special tokens; give some thousands."
        )
    if not texts:
        raise DataError("There are no texts to learn a vocabulary from; give training data.")
    pieces = tokenizers.pre_tokenizers.ByteLevel
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pieces(add_prefix_space=True)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=sorted(pieces.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, special.index(END))]
    )
    wrapped: PreTrainedTokenizerBase = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=END,
        bos_token=BEGIN,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    return wrapped
