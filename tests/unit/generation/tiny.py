"""A tiny causal language model of random weights."""

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

VOCABULARY, END, PAD = 13, 12, 0


def llama(*, seed: int = 0, dropout: float = 0.0, positions: int = 64, spread: float = 0.3):
    """Rotary positions, grouped heads."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        attention_dropout=dropout,
        initializer_range=spread,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config).train()


def gpt2(*, seed: int = 0, dropout: float = 0.0, positions: int = 64, spread: float = 0.3):
    """Learned positions, dropout everywhere."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=positions,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        initializer_range=spread,
    )
    return GPT2LMHeadModel(config).train()


def prompts(*lengths: int, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY - 1, (n,), generator=generator) for n in lengths]


def next_logits(model: nn.Module, tokens: list[int]) -> torch.Tensor:
    """`[V]` float64, without cache, padding or batch."""
    was = model.training
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([tokens])).logits[0, -1].double()
    model.train(was)
    return logits
