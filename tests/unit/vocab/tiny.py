"""Tokenizers of three families, trained on a few sentences in milliseconds."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "The still is made of copper, and the spirit runs clear.",
    "A second distillation makes it stronger; the third one is rare.",
    "Größe und Maß: café, naïve, smörgåsbord — 日本の蒸留酒 is whisky too. 🥃",
    "def still(copper: float) -> float:\n    return copper * 2  # twice\n",
]


@cache
def byte_level(
    size: int = 320, end: str = "<|end|>", *, extra: tuple[str, ...] = (), fewer: bool = False
) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[end, *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS[:2] if fewer else TEXTS, trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token=end)


@cache
def sentencepiece(size: int = 400) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    names = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=names, show_progress=False)
    made.train_from_iterator(TEXTS[:2], trainer=trainer)
    # The trainer marks bytes as special; a Llama tokenizer has them as plain tokens.
    vocabulary = made.get_vocab()
    merges = [tuple(pair) for pair in _merges(made)]
    plain = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>")
    )
    plain.normalizer, plain.decoder = made.normalizer, made.decoder
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    import json

    return json.loads(tokenizer.to_str())["model"]["merges"]


def encode(tokenizer: PreTrainedTokenizerFast):
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
