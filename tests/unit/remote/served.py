"""A tiny model saved as people have it, and real servers that serve it, each its own process."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

NAME = "tiny"
SENTENCES = (
    "the quick brown fox jumps over the lazy dog.",
    "She said: I do not know, and the weather was fine.",
    "Once upon a time there was a little girl named Lily.",
)
TEXTS = (
    "the fox said: é 漢 jumps over Lily",
    "a little girl",
    "Once upon",
    "the weather was fine.",
)


def save_model(folder: Path) -> Path:
    """A Llama of random weights with a byte-level tokenizer and a chat template."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def save_gguf(folder: Path, path: Path) -> Path:
    """The same model as llama.cpp reads it."""
    config = json.loads((folder / "config.json").read_text())
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_dimension_count(config["hidden_size"] // heads)
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(config["vocab_size"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    out.add_token_list(tokens)
    out.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_pad_token_id(2)
    out.add_add_bos_token(False)
    out.add_chat_template((folder / "chat_template.jinja").read_text())
    for name, values in load_file(str(folder / "model.safetensors")).items():
        if name.endswith("q_proj.weight"):
            values = _rotary(values, heads)
        if name.endswith("k_proj.weight"):
            values = _rotary(values, kv_heads)
        out.add_tensor(_named(name), np.ascontiguousarray(values, dtype=np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _named(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{_PARTS[part.removesuffix('.weight')]}.weight"


def _rotary(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring pairs, Transformers the halves of a head."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


class Served:
    """A server process on a port of its own; stopped and started again at will."""

    def __init__(self, command: list[str], name: str, *, ready: str, patience: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name, self.url = name, f"http://127.0.0.1:{self.port}"
        self._command = [part.replace("PORT", str(self.port)) for part in command]
        self._ready, self._patience = ready, patience
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Served":
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": ""}
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, env=env, stdout=quiet, stderr=quiet)
        end = time.monotonic() + self._patience
        while not self._answers():
            assert self._process.poll() is None, f"{self._command} ended by itself"
            assert time.monotonic() < end, f"{self._command} did not become ready"
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self._ready, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


def llama_cpp(model: Path) -> Served:
    """The HTTP server of llama.cpp, from the wheels of xllamacpp."""
    program = Path(__file__).parent / "llama_cpp_process.py"
    command = [sys.executable, str(program), str(model), "PORT"]
    return Served(command, str(model), ready="/health", patience=60)


def transformers_serve(model: Path) -> Served:
    """`transformers serve`."""
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", str(model), "--port", "PORT", "--host", "127.0.0.1"]
    command += ["--device", "cpu"]
    return Served(command, str(model), ready="/health", patience=240)


def logprobs_of(folder: Path, ids: list[int]) -> torch.Tensor:
    """`[L, V]`: what the model itself says may follow each token, in float64."""
    model = LlamaForCausalLM.from_pretrained(str(folder)).double().eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def tokenizer_of(folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(str(folder))
