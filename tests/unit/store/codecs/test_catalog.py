"""Codecs by name; what is wrong with a name or an option is said in a sentence."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from typing import ClassVar

import pytest
import torch

from potstill.errors import StoreError
from potstill.store.codecs import (
    DenseLogits,
    FloatTensor,
    Int8Tensor,
    Sampled,
    TopK,
    Vocabulary,
    catalog,
    codec_names,
    make_codec,
    register,
)
from potstill.testing import CodecContract


@dataclass(frozen=True, slots=True)
class Halves(FloatTensor.__mro__[1]):  # Codec
    name: ClassVar[str] = "halves"
    signal: ClassVar[str] = "tensor"

    def options(self):
        return {}

    def encode(self, values, *, keys_N):
        return FloatTensor().encode(values, keys_N=keys_N)

    def decode(self, rows, *, row_shape):
        return FloatTensor().decode(rows, row_shape=row_shape)

    def bytes_per_row(self, row_shape):
        return FloatTensor().bytes_per_row(row_shape)

    def error_bound(self):
        return FloatTensor().error_bound()


class TestHalves(CodecContract):
    def make(self):
        return Halves()

    def check(self, values, decoded):
        torch.testing.assert_close(decoded, values.float(), rtol=2e-3, atol=1e-6)


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(catalog, "_CODECS", dict(catalog._CODECS))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dense", {}, DenseLogits()),
        ("dense", {"dtype": "bf16"}, DenseLogits("bf16")),
        ("topk", {"k": 12, "temperature": 2.0, "logprobs": "8bit"}, TopK(12, 2.0, "8bit")),
        ("vocabulary", {"max_k": 64}, Vocabulary(max_k=64)),
        ("sampled", {"draws": 12, "seed": 4}, Sampled(draws=12, seed=4)),
        ("float", None, FloatTensor("fp16")),
        ("int8", {"block": 64}, Int8Tensor(64)),
    ],
)
def test_a_codec_is_made_by_name(name: str, options, expected) -> None:
    made = make_codec(name, options)

    assert made == expected
    assert make_codec(made.name, made.options()) == made


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vocab", {}, "no codec `vocab`; did you mean `vocabulary`"),
        ("topk", {"temprature": 3}, "no option `temprature`; did you mean `temperature`"),
        ("float", {"bits": 8}, "no option `bits`; its options: dtype"),
        ("dense", {"dtype": "fp8"}, "no dtype 'fp8'; choose one of fp32, bf16, fp16"),
        ("topk", {"k": 0}, "k=0; give a whole number of at least 1"),
        ("topk", {"k": 2.5}, "k=2.5; give a whole number"),
        ("topk", {"k": True}, "k=True; give a whole number"),
        ("topk", {"temperature": 0.0}, "temperature=0.0; give a number above 0"),
        ("topk", {"temperature": float("nan")}, "temperature=nan"),
        ("topk", {"temperature": "hot"}, "temperature='hot'"),
        ("topk", {"logprobs": "4bit"}, "'4bit'; choose fp16 or 8bit"),
        ("vocabulary", {"min_k": 9, "max_k": 8}, "max_k=8; give a whole number of at least 9"),
        ("vocabulary", {"max_k": 257}, "at most 256 classes and got max_k=257"),
        ("vocabulary", {"top_p": 0.0}, "top_p=0.0; give a number above 0, at most 1"),
        ("vocabulary", {"top_p": 1.5}, "top_p=1.5"),
        ("vocabulary", {"top_p": "most"}, "top_p='most'"),
        ("sampled", {"draws": 0}, "draws=0"),
        ("sampled", {"tau": 0.0}, "tau=0.0; give a number above 0"),
        ("sampled", {"tau": "low"}, "tau='low'"),
        ("sampled", {"seed": -1}, "seed=-1"),
        ("int8", {"block": -4}, "block=-4; give a whole number of at least 0"),
        ("int8", {"block": "8"}, "block='8'"),
    ],
)
def test_mistakes_are_said_in_a_sentence(name: str, options, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        make_codec(name, options)

    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("topk", torch.zeros(2, 3, 4), "logits `[rows, classes]` and got the shape [2, 3, 4]"),
        ("sampled", torch.zeros(3), "got the shape [3]"),
        ("dense", torch.zeros(2, 3, dtype=torch.int64), "floating-point numbers and got torch.int"),
        ("float", torch.zeros(2, 0), "shape [2, 0]"),
        ("vocabulary", torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), "row 1 of this batch"),
        ("int8", torch.tensor([[0.0, -torch.inf]]), "the value -inf"),
        ("dense", torch.tensor([[1e300, 0.0]], dtype=torch.float64), "the value inf"),
    ],
)
def test_values_that_cannot_be_stored_are_said(name: str, values, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        make_codec(name).encode(values, keys_N=torch.arange(len(values)))

    assert message in str(caught.value)


def test_large_numbers_in_half_precision_name_the_way_out() -> None:
    with pytest.raises(StoreError, match=r"up to 65,504 and got -70000; choose bf16 or fp32\."):
        FloatTensor().encode(torch.tensor([[1.0, -7e4]]), keys_N=torch.arange(1))


def test_a_codec_can_be_added(own) -> None:
    assert register(Halves) is Halves
    assert register(Halves) is Halves  # again, as a module that is imported twice does

    assert make_codec("halves") == Halves()
    assert codec_names()[-1] == "halves"


def test_a_name_belongs_to_one_codec(own) -> None:
    class Other(Halves):
        name: ClassVar[str] = "dense"

    with pytest.raises(StoreError, match=r"codec `dense` already; give `Other` another name\."):
        register(Other)


def test_codecs_of_installed_packages_are_found(own, monkeypatch) -> None:
    module = type(sys)("halves_package")
    module.Halves = Halves
    monkeypatch.setitem(sys.modules, "halves_package", module)
    point = EntryPoint("halves", "halves_package:Halves", catalog.ENTRY_POINTS)

    found = EntryPoints([point])
    monkeypatch.setattr(catalog, "entry_points", lambda **asked: found.select(**asked))

    assert "halves" in codec_names()
    assert make_codec("halves") == Halves()
    with pytest.raises(StoreError, match="halves"):
        make_codec("half")
