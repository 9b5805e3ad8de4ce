"""Tokenizers cut to the tokens in use: the texts as before, any other text still, every family."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from potstill.errors import DataError
from potstill.vocab import cut_to_use

from .tiny import TEXTS, byte_level, sentencepiece

USED = TEXTS[:1]
OTHERS = [*TEXTS[1:], "brand-new wörds, ЖШЩ and\ttabs"]


def wordpiece() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        TEXTS, WordPieceTrainer(vocab_size=300, special_tokens=names, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def unigram(*, fallback: bool) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    names = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)] * fallback]
    trainer = UnigramTrainer(
        vocab_size=200 + 256 * fallback,
        special_tokens=names,
        unk_token="<unk>",
        show_progress=False,
    )
    made.train_from_iterator(TEXTS[:2], trainer)
    vocab = [(piece, score) for piece, score in json.loads(made.to_str())["model"]["vocab"]]
    plain = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=fallback))
    plain.pre_tokenizer = made.pre_tokenizer
    space = decoders.Replace("▁", " ")
    plain.decoder = decoders.Sequence([space, decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def with_suffix() -> PreTrainedTokenizerFast:
    """Ends of words are marked, as in CLIP."""
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = BpeTrainer(
        vocab_size=200,
        special_tokens=["<unk>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


FAMILIES = {
    "byte-level": lambda: byte_level(400),
    "byte-fallback": sentencepiece,
    "word ends": with_suffix,
    "wordpiece": wordpiece,
    "unigram": lambda: unigram(fallback=False),
    "unigram with bytes": lambda: unigram(fallback=True),
}


def ids(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts)["input_ids"]


@pytest.fixture(params=FAMILIES)
def whole(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return FAMILIES[request.param]()


def cut(whole: PreTrainedTokenizerFast):
    return cut_to_use(whole, np.unique(np.concatenate(ids(whole, USED))).tolist())


def test_the_texts_keep_their_tokens_and_fewer_are_left(whole) -> None:
    made = cut(whole)

    old = [[made.kept[number] for number in text] for text in ids(made.tokenizer, USED)]

    assert old == ids(whole, USED)
    assert made.before == len(whole)
    assert len(made.tokenizer) == len(made.kept) < made.before


def test_any_other_text_can_still_be_written(whole) -> None:
    made = cut(whole)

    for text in OTHERS:
        before, after = (t(text)["input_ids"] for t in (whole, made.tokenizer))
        read = (t.decode(i) for t, i in ((whole, before), (made.tokenizer, after)))
        assert len(after) >= len(before)
        assert len(set(read)) == 1


def test_it_is_saved_and_opened(whole, tmp_path) -> None:
    made = cut(whole)
    made.tokenizer.save_pretrained(str(tmp_path))

    again = AutoTokenizer.from_pretrained(str(tmp_path))

    assert ids(again, OTHERS) == ids(made.tokenizer, OTHERS)
    assert again.special_tokens_map == whole.special_tokens_map


def test_special_tokens_and_the_chat_template_stay() -> None:
    whole = byte_level(400, extra=("<|im_start|>", "<|im_end|>"))
    whole.chat_template = "{{ messages[0].content }}"

    made = cut(whole)

    assert made.tokenizer.chat_template == whole.chat_template
    for name in ("<|im_start|>", "<|im_end|>", "<|end|>"):
        assert made.kept[made.tokenizer.convert_tokens_to_ids(name)] == (
            whole.convert_tokens_to_ids(name)
        )


def test_a_token_brings_what_it_is_merged_from() -> None:
    whole = byte_level(400)
    (number,) = whole("copper", add_special_tokens=False)["input_ids"][-1:]

    made = cut_to_use(whole, [number])

    assert made.tokenizer.encode("copper")[-1] == made.kept.index(number)


def test_a_tokenizer_of_python_code_is_refused() -> None:
    class Slow:
        pass

    with pytest.raises(DataError, match=r"tokenizer\.json"):
        cut_to_use(Slow(), [0])  # type: ignore[arg-type]
