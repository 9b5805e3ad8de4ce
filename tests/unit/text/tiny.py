"""A tokenizer, a random encoder and a made-up set of texts, saved as people have them."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

GOOD, BAD = ("fine", "great", "lovely", "bright"), ("poor", "awful", "dull", "grim")
PLAIN = ("the", "film", "was", "and", "a", "story", "with", "music", "very", "long")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (*SPECIAL, *GOOD, *BAD, *PLAIN)


def save_tokenizer(folder: Path) -> None:
    numbers = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(str(folder))


def save_encoder(folder: Path, *, layers: int = 4) -> Path:
    """A BERT of random weights with two classes, and its tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=2,
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForSequenceClassification(config).save_pretrained(str(folder))
    save_tokenizer(folder)
    return folder


def rows(count: int, *, seed: int) -> list[dict[str, object]]:
    """Texts of 2 to 20 words whose mood is their label, and a second text of plain words."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        label = number % 2
        words = chance.choices(PLAIN, k=chance.randint(1, 19))
        words.insert(chance.randrange(len(words) + 1), chance.choice(GOOD if label else BAD))
        other = " ".join(chance.choices(PLAIN, k=3))
        made.append(
            {
                "text": " ".join(words),
                "other": other,
                "label": label,
                "both": [label, int(any(w in GOOD[:2] or w in BAD[:2] for w in words))],
                "value": float(label) + 0.5 * (words[0] == "the"),
            }
        )
    return made


def save_texts(folder: Path, *, train: int = 384, test: int = 64) -> dict[str, str]:
    """Files by part."""
    files = {}
    for seed, (part, count) in enumerate({"train": train, "test": test}.items()):
        path = folder / f"{part}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows(count, seed=seed)))
        files[part] = str(path)
    return files
