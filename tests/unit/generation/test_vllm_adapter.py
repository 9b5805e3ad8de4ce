"""What the adapter asks of vLLM, which itself is not run here: a recorder stands in its place."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from potstill.errors import MissingExtra, ModelError
from potstill.generation import Sampling, VllmEngine
from potstill.models.adapters import adapt

from .tiny import END, PAD, llama, prompts


class Recorder:
    """Answers every prompt with its first token and the end; remembers what it was asked."""

    def __init__(self, *, model: str, **options: object) -> None:
        self.folder, self.options = Path(model), options
        self.reloads, self.resets = 0, 0
        self.asked: list[tuple[list[int], SimpleNamespace]] = []

    def generate(self, told, requests, *, use_tqdm):
        answers = []
        for one, request in zip(told, requests, strict=True):
            self.asked.append((one["prompt_token_ids"], request))
            tokens = [one["prompt_token_ids"][0], END]
            said = [{t: SimpleNamespace(logprob=-0.5 * i)} for i, t in enumerate(tokens, start=1)]
            answers.append(
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, logprobs=said)])
            )
        return answers

    def collective_rpc(self, method: str) -> None:
        assert method == "reload_weights"
        self.reloads += 1

    def reset_prefix_cache(self) -> None:
        self.resets += 1


@pytest.fixture
def vllm(monkeypatch):
    made = []

    def start(**options: object) -> Recorder:
        made.append(Recorder(**options))
        return made[-1]

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = start, lambda **options: SimpleNamespace(**options)
    monkeypatch.setitem(sys.modules, "vllm", module)
    return made


def test_present_weights_are_shown_and_answers_come_back(vllm) -> None:
    model, given = llama(), prompts(3, 5)
    engine = VllmEngine(ends=[END], pad=PAD, options={"gpu_memory_utilization": 0.3})

    engine.write(model, given, Sampling(max_new_tokens=4), seed=1)
    with torch.no_grad():
        model.lm_head.weight += 1
    written = engine.write(model, given, Sampling(max_new_tokens=4, top_p=0.9), seed=1)

    (server,) = vllm
    assert server.options["gpu_memory_utilization"] == 0.3
    assert server.options["logprobs_mode"] == "processed_logprobs"
    assert (server.reloads, server.resets) == (1, 1)
    shown = load_file(server.folder / "model.safetensors")
    assert torch.equal(shown["lm_head.weight"], model.lm_head.weight)
    assert written.texts() == [[int(p[0]), END] for p in given]
    assert written.ended.all()
    assert written.logprobs.tolist() == [[-0.5, -1.0]] * 2


def test_adapters_are_added_to_the_weights_that_are_shown(vllm) -> None:
    pytest.importorskip("peft", reason="LoRA needs peft")
    model = adapt(llama(), {"rank": 2})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    base = llama().state_dict()

    engine = VllmEngine(ends=[END], pad=PAD)  # the weights are shown for as long as it lives
    engine.write(model, prompts(3), Sampling(), seed=1)

    shown = load_file(vllm[0].folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert shown.keys() == base.keys()
    assert not torch.equal(shown[name], base[name])


def test_each_prompt_has_a_seed_of_its_own(vllm) -> None:
    engine, model = VllmEngine(ends=[END], pad=PAD), llama()

    engine.write(model, prompts(3, 5), Sampling(), seed=1, keys=[7, 8])
    engine.write(model, prompts(5), Sampling(), seed=1, keys=[8])
    engine.write(model, prompts(5), Sampling(), seed=2, keys=[8])

    seeds = [request.seed for _, request in vllm[0].asked]
    assert seeds[1] == seeds[2]
    assert len(set(seeds)) == 3
    assert all(request.stop_token_ids == [END] for _, request in vllm[0].asked)


def test_what_it_cannot_do_is_said(vllm, monkeypatch) -> None:
    beams = Sampling(temperature=0, beams=2)
    with pytest.raises(ModelError, match="engine: transformers"):
        VllmEngine(ends=[END], pad=PAD).write(llama(), prompts(3), beams, seed=0)

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"potstill\[vllm\]"):
        VllmEngine(ends=[END], pad=PAD).write(llama(), prompts(3), Sampling(), seed=0)
