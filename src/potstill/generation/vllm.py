"""vLLM as an engine: faster on a GPU, in the same process or in workers of its own.

A thin adapter, written against vLLM's documented Python interface (`LLM.generate`,
`LLM.collective_rpc`) and not run by the project's tests, which have no GPU.
"""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from potstill.data.draws import Draws
from potstill.errors import DataError, ModelError, need
from potstill.generation.engine import Engine, Sampling, Written
from potstill.generation.hugging import writer_in
from potstill.models.adapters import has_adapters, merged

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@final
class VllmEngine(Engine):
    """Lets vLLM write with the weights of a causal language model of Transformers.

    The first call writes the model to a folder and starts vLLM on it; each later one writes the
    present weights there and has them read again. Draws are reproducible as far as vLLM's are: each
    request has a seed of its own, but its kernels may round otherwise in other batches.

    Args:
        ends: the tokens that end a continuation, any of them.
        pad: what fills up.
        options: of `vllm.LLM`, for example `{"gpu_memory_utilization": 0.3}`.
        vocabulary: how many tokens there are; a head that was padded to more never writes those.
    """

    def __init__(
        self,
        *,
        ends: Sequence[int],
        pad: int,
        options: dict[str, object] | None = None,
        vocabulary: int | None = None,
    ) -> None:
        self._ends, self._pad, self._options = tuple(ends), pad, dict(options or {})
        self._vocabulary = vocabulary
        self._folder: Path | None = None
        self._llm: Any = None  # vllm.LLM, which is not installed where types are checked

    def write(
        self,
        model: nn.Module,
        prompts: Sequence[Tensor],
        sampling: Sampling,
        *,
        seed: int,
        keys: Sequence[int] | None = None,
    ) -> Written:
        """As in `Engine`.

        Raises:
            MissingExtra: vLLM is not installed.
            ModelError: a beam search was asked for, which this adapter leaves to `transformers`.
        """
        vllm = need("vllm", extra="vllm")
        if sampling.beams > 1:
            raise ModelError(
                "vLLM is used for drawing alone; set `engine: transformers` for beams."
            )
        for row, prompt in enumerate(prompts):
            if not len(prompt):
                raise DataError(f"Prompt {row} has no tokens; a model needs one at least.")
        inner = writer_in(model)
        self._show(vllm, inner)
        known = self._vocabulary
        is_padded = known is not None and known < inner.config.vocab_size
        names = torch.tensor(range(len(prompts)) if keys is None else list(keys))
        seeds = Draws.of(seed, names, torch.zeros_like(names)).keys & 0x7FFFFFFF
        requests = [
            vllm.SamplingParams(
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k or -1,
                seed=own if sampling.draws else None,
                logprobs=0 if sampling.draws else None,  # of the chosen token alone
                stop_token_ids=list(self._ends),
                allowed_token_ids=list(range(known or 0)) if is_padded else None,
                ignore_eos=True,  # our ends count, not those of the model's settings
                detokenize=False,
            )
            for own in seeds.tolist()
        ]
        told = [{"prompt_token_ids": prompt.tolist()} for prompt in prompts]
        answers = [one.outputs[0] for one in self._llm.generate(told, requests, use_tqdm=False)]
        return self._collected(answers, sampling, next(model.parameters()).device)

    def _show(self, vllm: ModuleType, model: "PreTrainedModel") -> None:
        """Give vLLM the present weights."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="potstill-vllm-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        whole = merged(model) if has_adapters(model) else model
        whole.save_pretrained(str(self._folder))  # type: ignore[operator]  # a model of Transformers
        if self._llm is None:
            self._llm = vllm.LLM(
                model=str(self._folder),
                skip_tokenizer_init=True,
                logprobs_mode="processed_logprobs",  # those of the distribution drawn from
                generation_config="vllm",  # not the sampling that came with the weights
                **self._options,
            )
        else:
            self._llm.collective_rpc("reload_weights")
            self._llm.reset_prefix_cache()

    def _collected(
        self, answers: Sequence[Any], sampling: Sampling, device: torch.device
    ) -> Written:
        tokens = [list(each.token_ids) for each in answers]
        widest = max(map(len, tokens))
        ids = torch.full((len(tokens), widest), self._pad, dtype=torch.int64)
        logprobs = torch.zeros(len(tokens), widest)
        for row, (own, each) in enumerate(zip(tokens, answers, strict=True)):
            ids[row, : len(own)] = torch.tensor(own)
            if sampling.draws:
                of = [said[token].logprob for token, said in zip(own, each.logprobs, strict=True)]
                logprobs[row, : len(own)] = torch.tensor(of)
        return Written(
            ids=ids.to(device),
            lengths=torch.tensor([len(own) for own in tokens]).to(device),
            logprobs=logprobs.to(device) if sampling.draws else None,
            ended=torch.tensor([own[-1] in self._ends for own in tokens]).to(device),
        )
