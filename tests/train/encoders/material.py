"""A tiny seeded BERT with a word-level tokenizer, and messages with intents; as a program, it teaches them once."""

import json
import sys
from pathlib import Path
from typing import Any

from vivace.config.intent import IntentSettings
from vivace.domain import Example, Message
from vivace.models import identify
from vivace.store import write_examples

INTENTS = {
    "refund": ["refund", "money", "return"],
    "track": ["parcel", "track", "delivery"],
    "password": ["password", "login", "account"],
    "hours": ["open", "hours", "close"],
}
OTHERS = ["weather", "poem", "football", "recipe"]
FILLERS = ["please", "i", "the", "my", "can", "you", "want", "today", "about", "a", "is", "now"]
WORDS = [*(word for words in INTENTS.values() for word in words), *OTHERS, *FILLERS]
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 8,
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "eval_steps_fraction": 0.125,
    "early_stopping_patience": 9,
    "max_length": 24,
}


def build_tiny_encoder(out: Path, *, kind: str = "bert") -> Path:
    """Write a Hugging Face folder with a 2-layer encoder under 100 KB into `out` and return it."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

    from tests.tiny import LINES

    known = sorted({word for line in LINES for word in line.lower().replace("?", "").replace(".", "").split()})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    for word in [*known, "number", "sorry", "what", ":", "user", "assistant", *map(str, range(60))]:
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"][:: 1 if kind == "bert" else 2],
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(told))
    torch.manual_seed(3)
    shared = {"vocab_size": len(vocabulary), "pad_token_id": 0, "initializer_range": 0.2}
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 128,
    }
    if kind == "bert":
        model: Any = BertModel(BertConfig(**shared, **sizes))
    elif kind == "roberta":
        model = RobertaModel(RobertaConfig(**shared, **sizes, type_vocab_size=1))
    else:
        model = DistilBertModel(
            DistilBertConfig(**shared, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=128)
        )
    model.save_pretrained(out)
    return out


def message(words: list[str], number: int) -> str:
    """A message with one of the words, the rest chosen by the number."""
    fill = [FILLERS[(number * 7 + step * 5) % len(FILLERS)] for step in range(3)]
    return " ".join([fill[0], words[number % len(words)], *fill[1:], str(number)])


def write_messages(folder: Path, *, train: int = 24, held: int = 12, other: int = 8) -> Path:
    """Messages of four intents and some of none; a message's number makes it unique, an intent's words tell it."""
    rows = []
    for split, count in (("train", train), ("validation", held), ("test", held)):
        for place, (intent, words) in enumerate([*INTENTS.items(), ("oos", OTHERS)]):
            for number in range(other if intent == "oos" else count):
                seed = number + {"train": 0, "validation": 60, "test": 120}[split]
                text = message(words, seed)
                rows.append(
                    Example(
                        f"{split}-{place}-{number}",
                        (Message("user", text),),
                        split=split,  # type: ignore[arg-type]
                        metadata={"intent": intent},
                    )
                )
    write_examples(folder / "queries.jsonl", rows)
    return folder


def teach(dataset: Path, encoder: Path, folder: Path, progress: Any = None, **changes: Any) -> dict[str, Any]:
    """Teach the tiny encoder."""
    from tests.train.material import workspace
    from vivace.train.intents.teach import teach_intents

    settings = IntentSettings(**{**SETTINGS, **changes})
    return teach_intents(dataset, "intent", identify(encoder), settings, workspace(folder, progress))


if __name__ == "__main__":
    teach(*map(Path, sys.argv[1:4]), **json.loads("".join(sys.argv[4:]) or "{}"))
