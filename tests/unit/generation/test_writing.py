"""What the default engine writes, against a loop without cache, padding or batches."""

import pytest
import torch
from torch import nn

from potstill.errors import DataError, ModelError, RecipeError
from potstill.generation import HuggingFaceEngine, Sampling

from .tiny import END, PAD, VOCABULARY, gpt2, llama, next_logits, prompts

MODELS = pytest.mark.parametrize("make", [llama, gpt2])


def engine(*, ends: tuple[int, ...] = (END,), rows: int = 64) -> HuggingFaceEngine:
    return HuggingFaceEngine(ends=ends, pad=PAD, rows=rows)


def warped_by_hand(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """`[V]` probabilities: temperature, top-k, top-p, token by token."""
    p = (logits / sampling.temperature).softmax(-1)
    order = sorted(range(len(p)), key=lambda v: -float(p[v]))[: sampling.top_k]
    total = sum(float(p[v]) for v in order)
    kept, mass = [], 0.0
    for token in order:
        if mass >= sampling.top_p:
            break
        kept.append(token)
        mass += float(p[token]) / total
    chosen = torch.zeros_like(p)
    chosen[kept] = p[kept]
    return chosen / chosen.sum()


@MODELS
@pytest.mark.parametrize("rows", [1, 2, 64])  # buckets of one prompt, of two, all together
def test_greedy_is_the_loop_that_takes_the_most_probable_token(make, rows) -> None:
    model, given = make(dropout=0.3), prompts(5, 2, 9, 5)

    written = engine(rows=rows).write(
        model, given, Sampling(max_new_tokens=7, temperature=0), seed=0
    )

    for prompt, found in zip(given, written.texts(), strict=True):
        expected: list[int] = []
        while len(expected) < 7 and END not in expected:
            expected.append(int(next_logits(model, prompt.tolist() + expected).argmax()))
        assert found == expected
    assert written.logprobs is None, "nothing was drawn"


@MODELS
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=6),
        Sampling(max_new_tokens=6, temperature=0.6, top_p=0.8),
        Sampling(max_new_tokens=6, temperature=1.7, top_k=3),
        Sampling(max_new_tokens=6, top_k=5, top_p=0.5),
    ],
)
def test_logprobs_are_those_of_the_distribution_that_was_drawn_from(make, sampling) -> None:
    model, given = make(), prompts(3, 8, 4)

    written = engine(rows=2).write(model, given, sampling, seed=5)

    assert written.logprobs is not None
    for row, (prompt, tokens) in enumerate(zip(given, written.texts(), strict=True)):
        for place, token in enumerate(tokens):
            logits = next_logits(model, prompt.tolist() + tokens[:place])
            expected = warped_by_hand(logits, sampling)[token].log()
            assert float(written.logprobs[row, place]) == pytest.approx(float(expected), abs=1e-4)


def test_tokens_are_drawn_in_proportion_to_their_probability() -> None:
    model, (prompt,) = llama(), prompts(4)
    sampling, draws = Sampling(max_new_tokens=1, temperature=1.3, top_p=0.9), 6000

    written = engine(rows=draws).write(model, [prompt] * draws, sampling, seed=11)

    p = warped_by_hand(next_logits(model, prompt.tolist()), sampling)
    found = torch.bincount(written.ids[:, 0], minlength=VOCABULARY).double() / draws
    error = (p * (1 - p) / draws).sqrt()
    assert ((found - p).abs() <= 4.5 * error + 1e-12).all()
    assert (found[p == 0] == 0).all()


def test_a_prompts_continuation_does_not_depend_on_who_else_is_there() -> None:
    model, given = llama(), prompts(5, 2, 9, 7)
    sampling = Sampling(max_new_tokens=9)

    together = engine().write(model, given, sampling, seed=2, keys=[40, 41, 42, 43])
    alone = engine().write(model, [given[2]], sampling, seed=2, keys=[42])
    apart = engine(rows=1).write(model, given, sampling, seed=2, keys=[40, 41, 42, 43])

    assert alone.texts() == [together.texts()[2]]
    assert apart.texts() == together.texts()


def test_seed_and_keys_name_the_draws() -> None:
    model, given, sampling = llama(), prompts(5, 5), Sampling(max_new_tokens=9)

    def texts(seed: int, keys: list[int]) -> list[list[int]]:
        return engine().write(model, given, sampling, seed=seed, keys=keys).texts()

    assert texts(1, [7, 8]) == texts(1, [7, 8])
    assert texts(1, [7, 8]) != texts(2, [7, 8])
    assert texts(1, [7, 8])[0] != texts(1, [9, 8])[0]


@MODELS
def test_nothing_else_changes(make) -> None:
    model = make(dropout=0.5)
    frozen = next(part for part in model.modules() if isinstance(part, nn.Dropout | nn.Linear))
    frozen.eval()
    flags = [part.training for part in model.modules()]
    before, own = torch.get_rng_state(), model.generation_config

    first = engine().write(model, prompts(4, 6), Sampling(max_new_tokens=5), seed=3)
    second = engine().write(model, prompts(4, 6), Sampling(max_new_tokens=5), seed=3)

    assert first.texts() == second.texts(), "dropout was off"
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in model.modules()] == flags
    assert model.generation_config is own
    assert not first.ids.is_inference(), "what is written goes through training"
    assert all(p.grad is None for p in model.parameters())


def test_the_checkpoints_own_sampling_has_no_say() -> None:
    plain, opinionated = llama(), llama()
    opinionated.generation_config.repetition_penalty = 50.0
    opinionated.generation_config.suppress_tokens = list(range(6))
    opinionated.generation_config.min_new_tokens = 4
    greedy = Sampling(max_new_tokens=8, temperature=0)

    expected = engine().write(plain, prompts(3, 5), greedy, seed=0)
    found = engine().write(opinionated, prompts(3, 5), greedy, seed=0)

    assert found.texts() == expected.texts()


def test_writing_stops_behind_any_of_the_ends() -> None:
    model, given = llama(), prompts(*[4] * 12)
    sampling = Sampling(max_new_tokens=20, temperature=1.5)

    written = engine(ends=(3, 8)).write(model, given, sampling, seed=4)

    assert written.ended.any()
    for tokens, ended, length in zip(
        written.texts(), written.ended.tolist(), written.lengths.tolist(), strict=True
    ):
        assert len(tokens) == length
        assert ended == (tokens[-1] in {3, 8})
        assert not {3, 8} & set(tokens[:-1])
        assert ended or length == 20
    assert written.logprobs is not None
    padding = torch.arange(written.ids.shape[1]) >= written.lengths[:, None]
    assert (written.logprobs[padding] == 0).all()
    assert (written.ids[padding] == PAD).all()


def test_a_wide_beam_search_finds_the_most_probable_pair() -> None:
    model, (prompt,) = llama(), prompts(4)
    start = prompt.tolist()
    first = next_logits(model, start).log_softmax(-1)
    second = [next_logits(model, [*start, v]).log_softmax(-1) for v in range(VOCABULARY)]
    total = first[:, None] + torch.stack(second)

    beams = Sampling(max_new_tokens=2, temperature=0, beams=VOCABULARY)
    written = engine(ends=()).write(model, [prompt], beams, seed=0)

    assert written.texts() == [list(divmod(int(total.argmax()), VOCABULARY))]


def test_it_ends_where_the_models_positions_do() -> None:
    written = engine(ends=()).write(
        gpt2(positions=10), prompts(3, 8), Sampling(max_new_tokens=20), seed=0
    )

    assert written.ids.shape[1] == 2


@pytest.mark.parametrize(
    ("lengths", "named"),
    [((4, 10), "10 tokens and the model has positions for 10"), ((4, 0), "no tokens")],
)
def test_prompts_that_cannot_be_continued_are_refused(lengths, named) -> None:
    with pytest.raises(DataError, match=named):
        engine().write(gpt2(positions=10), prompts(*lengths), Sampling(), seed=0)


def test_a_model_that_cannot_write_is_refused() -> None:
    with pytest.raises(ModelError, match="causal language model"):
        engine().write(nn.Linear(2, 2), prompts(3), Sampling(), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_k": 0},
        {"beams": 0},
        {"beams": 4},  # a beam search that is to draw
    ],
)
def test_sampling_out_of_range_is_refused(wrong) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Sampling(**wrong)
