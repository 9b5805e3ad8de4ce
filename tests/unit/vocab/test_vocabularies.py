"""Bytes of tokens, what two vocabularies have in common, and heads wider than the tokenizer."""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from potstill import losses as L
from potstill.errors import DataError, HandshakeError
from potstill.signals import LazyLogits, Logits, Signals, SparseLogits, Target
from potstill.vocab import Vocabulary, common_tokens, compare, first_classes, usable_classes
from potstill.vocab.pieces import Spelling, reader, spelling_of

from . import tiny

FAMILIES = {
    "byte-level": tiny.byte_level,
    "smaller byte-level": lambda: tiny.byte_level(290, fewer=True),
    "sentencepiece": tiny.sentencepiece,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", tiny.TEXTS)
def test_the_bytes_of_the_tokens_of_a_text_are_the_text(family: str, text: str) -> None:
    tokenizer = FAMILIES[family]()
    pieces = Vocabulary.of(tokenizer).pieces

    told = b"".join(pieces[i] for i in tiny.encode(tokenizer)(text))

    assert told.removeprefix(b" ") == text.encode()


def test_names_are_read_by_family() -> None:
    assert reader(Spelling.BYTE_LEVEL)("Ġthe") == b" the"
    assert reader(Spelling.BYTE_LEVEL)("Ã©") == "é".encode()
    assert reader(Spelling.SENTENCEPIECE)("▁the") == b" the"
    assert reader(Spelling.SENTENCEPIECE)("<0xE2>") == b"\xe2"
    assert reader(Spelling.WORDPIECE)("##ing") == b"ing"
    assert reader(Spelling.WORDPIECE)("the") == b" the"
    assert spelling_of([], ["Ġa", "bc", "Ġthe"]) is Spelling.BYTE_LEVEL
    assert spelling_of([], ["abc", "de"]) is Spelling.PLAIN
    assert spelling_of(["Sequence", "ByteFallback"], ["abc"]) is Spelling.SENTENCEPIECE


@pytest.mark.parametrize("mine", FAMILIES)
@pytest.mark.parametrize("theirs", FAMILIES)
def test_common_tokens_have_equal_bytes_and_one_partner(mine: str, theirs: str) -> None:
    student, teacher = (Vocabulary.of(FAMILIES[name]()) for name in (mine, theirs))

    common = common_tokens(student, teacher)

    pairs = list(zip(common.student_ids_J.tolist(), common.teacher_ids_J.tolist(), strict=True))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    for a, b in pairs:
        assert student.pieces[a] == teacher.pieces[b]
    assert (student.roles["eos"], teacher.roles["eos"]) in pairs
    rest = {*common.student_rest.tolist()}
    assert rest | {a for a, _ in pairs} == set(student.tokens())
    assert not rest & {a for a, _ in pairs}
    if mine == theirs:
        assert common.overlap == 1
        assert all(a == b for a, b in pairs)


def test_a_common_piece_goes_to_the_usual_token_and_not_to_a_single_byte() -> None:
    tokenizer = tiny.sentencepiece()
    names, student = tokenizer.get_vocab(), Vocabulary.of(tiny.byte_level())

    common = common_tokens(student, Vocabulary.of(tokenizer))

    pairs = dict(zip(common.student_ids_J.tolist(), common.teacher_ids_J.tolist(), strict=True))
    letter = tiny.byte_level().get_vocab()["e"]
    assert pairs[letter] == names["e"] != names["<0x65>"]


def test_markers_are_given_by_name_and_wrong_ones_refused() -> None:
    student = Vocabulary.of(tiny.byte_level(extra=("<|user|>", "<|bot|>")))
    teacher = Vocabulary.of(tiny.byte_level(end="</s>", extra=("[INST]", "[/INST]")))

    report = compare(student, teacher, markers={"<|user|>": "[INST]"})

    assert report.special == {"<|end|>": "</s>", "<|user|>": "[INST]", "<|bot|>": None}
    assert not report.same
    assert any("nothing in place of <|bot|>" in line for line in report.lines())
    with pytest.raises(DataError, match=r"no\|>` is no special token of the student"):
        common_tokens(student, teacher, markers={"<|no|>": "[INST]"})
    with pytest.raises(DataError, match=r"of the teacher; it has: .*\[INST\]"):
        common_tokens(student, teacher, markers={"<|user|>": "no"})


def test_the_report_counts_and_says_what_is_padding() -> None:
    student, teacher = Vocabulary.of(tiny.byte_level()), Vocabulary.of(tiny.sentencepiece())

    report = compare(student, teacher, student_columns=384, teacher_columns=teacher.size)
    same = compare(student, student)

    assert report.student_tokens == len(tiny.byte_level())
    assert report.common == len(common_tokens(student, teacher))
    assert report.student_coverage == report.common / report.student_tokens
    assert "384 columns: 64 are padding and left out" in report.lines()[0]
    assert json.loads(json.dumps(report.to_json()))["coverage"]["student"] < 1
    assert same.same
    assert "id by id" in same.lines()[-1]
    assert student.fingerprint() != teacher.fingerprint()


def test_vocabularies_without_a_common_token_are_refused() -> None:
    one, other = Vocabulary((b"a", b"b")), Vocabulary((b"c", None))

    with pytest.raises(DataError, match="no token in common"):
        common_tokens(one, other)
    assert compare(one, other).common == 0


TOKENS, MINE, THEIRS = 11, 13, 16  # padded to different widths


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
@pytest.mark.parametrize("term", [L.KD(temperature=2), L.ReverseKL(), L.JSD()], ids=repr)
def test_heads_padded_to_different_widths_are_compared_by_the_tokenizer(term, lazy: bool) -> None:
    torch.manual_seed(0)
    head, their_head = nn.Linear(3, MINE), nn.Linear(4, THEIRS)
    states, their_states = torch.randn(6, 3), torch.randn(6, 4)
    with torch.no_grad():
        their_head.bias[TOKENS:] = 9  # padding that a teacher would be sure of
    count = usable_classes(TOKENS, student=MINE, teacher=THEIRS)

    student = LazyLogits(states.requires_grad_(), head, chunk_rows=4)
    teacher = LazyLogits(their_states, their_head)
    made = student if lazy else Logits(student.dense())
    taught = teacher if lazy else Logits(teacher.dense().detach())
    total = term(
        Signals(first_classes(made, count)), Signals(first_classes(taught, count)), Target(6)
    ).total
    slope, weight = torch.autograd.grad(total, [states, head.weight])

    leaf = states.detach().requires_grad_()
    plain = term(
        Signals(Logits(head(leaf)[:, :TOKENS])),
        Signals(Logits(their_head(their_states)[:, :TOKENS].detach())),
        Target(6),
    ).total
    torch.testing.assert_close(total, plain)
    torch.testing.assert_close(slope, torch.autograd.grad(plain, leaf)[0], rtol=1e-5, atol=1e-6)
    assert not weight[TOKENS:].any()
    assert weight[:TOKENS].any(dim=1).all()


def test_kept_classes_beyond_the_tokenizer_are_dropped() -> None:
    kept = SparseLogits(
        torch.tensor([[2, 12], [1, 0]]), torch.tensor([[0.5, 0.25], [0.75, 0.125]]).log(),
        torch.tensor([0.25, 0.125]), THEIRS, 1.0,
    )  # fmt: skip

    cut = first_classes(kept, TOKENS)

    assert cut.num_classes == TOKENS
    torch.testing.assert_close(cut.logprobs_NK.exp(), torch.tensor([[2 / 3, 0], [0.75, 0.125]]))
    torch.testing.assert_close(cut.tail_N, torch.tensor([1 / 3, 0.125]))


def test_a_head_with_too_few_columns_is_refused() -> None:
    with pytest.raises(HandshakeError, match="teacher's head has 10 columns and the tokenizer 11"):
        usable_classes(11, student=12, teacher=10)
    with pytest.raises(HandshakeError, match="logits of 5 classes and 6 were expected"):
        first_classes(Logits(torch.zeros(1, 5)), 6)


@pytest.mark.slow
def test_real_vocabularies() -> None:
    folder = Path(os.environ.get("POTSTILL_TOKENIZERS", ""))
    if not (folder / "gpt2" / "encoder.json.gz").is_file():
        pytest.skip("POTSTILL_TOKENIZERS names no folder with gpt2/ and qwen1.5/")
    names = [
        json.loads(gzip.decompress((folder / path).read_bytes()))
        for path in ("qwen1.5/vocab.json.gz", "gpt2/encoder.json.gz")
    ]
    read = reader(Spelling.BYTE_LEVEL)
    qwen, gpt2 = (
        Vocabulary(tuple(read(name) for name, _ in sorted(v.items(), key=lambda kv: kv[1])))
        for v in names
    )

    common = common_tokens(qwen, gpt2)

    assert (qwen.size, gpt2.size) == (151_643, 50_257)
    assert len(common) > 40_000
    assert all(
        qwen.pieces[a] == gpt2.pieces[b]
        for a, b in zip(common.student_ids_J.tolist(), common.teacher_ids_J.tolist(), strict=True)
    )
