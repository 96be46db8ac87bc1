"""Small vocabularies of every kind that is trimmed, learned from a shop's conversations, and models around them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.tiny import SPECIALS, build_tiny_model
from vivace.data.tokens.training import learn

SHOP = Path(__file__).parents[3] / "examples" / "support" / "test.jsonl"
CONTROLS = ["<unk>", "<s>", "</s>"]


@cache
def shop_texts() -> tuple[str, ...]:
    """What customers and support wrote to one another, turn by turn."""
    rows = [json.loads(line) for line in SHOP.read_text().splitlines()]
    return tuple(message["content"] for row in rows for message in row["messages"])


def byte_level() -> Tokenizer:
    """BPE on bytes, as GPT-2 and SmolLM2 have it; 1,200 tokens."""
    return learn(list(shop_texts()), "bpe", 1200, SPECIALS)


def whole_words() -> Tokenizer:
    """BPE on bytes that looks a whole word up before it merges, and puts a first token, as Llama 3 does."""
    tokenizer = learn(list(shop_texts()), "bpe", 1200, SPECIALS)
    told = json.loads(tokenizer.to_str())
    told["model"]["ignore_merges"] = True
    # A word that no merge makes: it is found whole or not at all.
    told["model"]["vocab"]["qzqzq"] = len(told["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(told))
    pattern = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    first = tokenizer.token_to_id("<|im_start|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", first)]),
        ]
    )
    return tokenizer


def byte_fallback() -> Tokenizer:
    """BPE on characters with bytes for the others, as SentencePiece's become: every way to make a piece is a merge."""
    sketch = Tokenizer(models.BPE())
    sketch.normalizer = _spaces()
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=[], show_progress=False, max_token_length=16)
    sketch.train_from_iterator([word for text in shop_texts() for word in _words(text)], trainer)
    learned = sorted(sketch.get_vocab(), key=sketch.token_to_id)
    letters = [piece for piece in learned if len(piece) == 1]
    pieces = [*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in learned if len(piece) > 1]
    # Letters that the shop's texts lack, some with pieces of their own and one that is a symbol for a space.
    pieces += [*dict.fromkeys([*letters, "▁", "中", "文", "é", "😀"])]
    pieces.insert(-5, "中文")
    place = {piece: number for number, piece in enumerate(pieces)}
    merges = sorted(
        (place[piece], place[piece[:cut]], piece[:cut], piece[cut:])
        for piece in pieces[259:]
        for cut in range(1, len(piece))
        if piece[:cut] in place and piece[cut:] in place
    )
    model = models.BPE(
        vocab=place,
        merges=[(left, right) for _rank, _first, left, right in merges],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _spaces()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROLS])
    # After the vocabulary, as chat models add them.
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return tokenizer


def unigram() -> Tokenizer:
    """Pieces with probabilities and bytes for what they do not cover."""
    return learn(list(shop_texts()), "unigram", 1200, SPECIALS)


def word_piece() -> Tokenizer:
    """Pieces that begin or continue a word, as BERT has them."""
    return learn(list(shop_texts()), "wordpiece", 1200, SPECIALS)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "whole-words": whole_words,
    "byte-fallback": byte_fallback,
    "unigram": unigram,
    "word-piece": word_piece,
}


def model_with(tokenizer: Tokenizer, out: Path, *, tied: bool = True, extra_rows: int = 0, **config: Any) -> Path:
    """Write the tiny model with another tokenizer and `extra_rows` more rows than it has tokens."""
    build_tiny_model(out)
    tokenizer.save(str(out / "tokenizer.json"))
    rows = tokenizer.get_vocab_size() + extra_rows
    random = np.random.default_rng(5)
    weights = load_file(out / "model.safetensors")
    weights["model.embed_tokens.weight"] = (random.standard_normal((rows, 64)) * 0.4).astype(np.float32)
    if not tied:
        weights["lm_head.weight"] = (random.standard_normal((rows, 64)) * 0.4).astype(np.float32)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    start, end = (tokenizer.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>"))
    ids = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    change(out / "config.json", vocab_size=rows, tie_word_embeddings=tied, **{**ids, **config})
    change(out / "generation_config.json", **ids)
    return out


def change(path: Path, **values: Any) -> None:
    """Lay values over a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2, sort_keys=True))


def _spaces() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def _words(text: str) -> list[str]:
    # Pieces of SentencePiece do not reach over a space.
    return [word for word in text.split(" ") if word]
