"""Learn a tokenizer from a dataset's own text: byte-level BPE, WordPiece or Unigram."""

import json
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from vivace.data.tokens.counting import TokenCounter
from vivace.data.tokens.fertility import Fertility
from vivace.data.tokens.sample import Sample
from vivace.domain import Split
from vivace.errors import ConfigError, DataError
from vivace.models import ChatTokenizer
from vivace.models.tokenizer import read_json
from vivace.registry import nearest
from vivace.store.files import write_atomic

Algorithm = Literal["bpe", "wordpiece", "unigram"]
ALGORITHMS: tuple[Algorithm, ...] = ("bpe", "wordpiece", "unigram")
MIN_VOCAB_SIZE = 300  # 256 bytes and a few special tokens
MAX_TRAINING_ROWS = 200_000
_UNKNOWN = {"wordpiece": "[UNK]", "unigram": "<unk>"}


def train_tokenizer(
    dataset: Path,
    base: Path,
    out: Path,
    *,
    algorithm: Algorithm = "bpe",
    vocab_size: int = 8000,
    max_rows: int = MAX_TRAINING_ROWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Learn a tokenizer from the training split, write it into `out`, and return how it compares with the base's.

    The special tokens and the chat template of the model folder `base` are kept. BPE works on bytes, so every text
    comes back as it was; Unigram loses U+2581, its sign for a space; WordPiece (Schuster and Nakajima 2012) loses
    white space and unknown letters. The comparison is on the test split, or on validation where there is none.
    """
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"There is no tokenizer algorithm {algorithm!r}.", nearest(algorithm, list(ALGORITHMS)))
    if vocab_size < MIN_VOCAB_SIZE:
        raise ConfigError(f"A vocabulary of {vocab_size:,} tokens is too small.", f"The least is {MIN_VOCAB_SIZE}.")
    ChatTokenizer.open(base)
    sample = Sample.draw(dataset, max_rows=max_rows, seed=seed)
    texts = list(_texts(sample, "train"))
    if not texts:
        raise DataError(f"The dataset in {dataset} has no training conversations to learn a tokenizer from.")
    specials = _special_tokens(base)
    tokenizer = learn(texts, algorithm, vocab_size, specials)
    _write(tokenizer, algorithm, base, out)
    return {
        **sample.told(),
        "algorithm": algorithm,
        "vocab_size": int(tokenizer.get_vocab_size()),
        "asked_vocab_size": vocab_size,
        "special_tokens": [str(token) for token in specials],
        "learned_from": {"texts": len(texts), "characters": sum(map(len, texts))},
        "held_out": _compare(sample, TokenCounter.open(base), TokenCounter.open(out)),
    }


def learn(texts: list[str], algorithm: Algorithm, vocab_size: int, specials: list[str]) -> Tokenizer:
    """Return a tokenizer learned from texts; the same texts give the same tokenizer."""
    if algorithm == "bpe":
        tokenizer = _byte_pairs(texts, vocab_size, specials)
    elif algorithm == "wordpiece":
        tokenizer = _word_pieces(texts, vocab_size, specials)
    else:
        tokenizer = _unigrams(texts, vocab_size, specials)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return tokenizer


def _byte_pairs(texts: list[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _word_pieces(texts: list[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    """Learn pairs of letters, then sort the pieces into those that begin a word and those that continue one.

    The library's own WordPiece trainer numbers its continuing letters in the order of a hash table, so that no two
    runs give the same vocabulary.
    """
    unknown = _UNKNOWN["wordpiece"]
    pairs = Tokenizer(models.BPE())
    pairs.normalizer = normalizers.NFC()
    pairs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pairs.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False))
    words: Counter[str] = Counter()
    for text in texts:
        words.update(
            word for word, _place in pairs.pre_tokenizer.pre_tokenize_str(pairs.normalizer.normalize_str(text))
        )
    listed = list(words)
    pieces: Counter[str] = Counter()
    letters: set[str] = set()
    for word, encoding in zip(listed, pairs.encode_batch(listed), strict=True):
        # A piece is taken from the word: a rare letter has no token and would vanish.
        for start, end in encoding.offsets:
            pieces["##" * (start > 0) + word[start:end]] += words[word]
        letters.update("##" * (place > 0) + letter for place, letter in enumerate(word))
    ranked = sorted(pieces, key=lambda piece: (-pieces[piece], piece))
    kept = list(dict.fromkeys([*specials, unknown, *sorted(letters), *ranked]))[: max(vocab_size, len(letters) + 8)]
    vocabulary = {piece: number for number, piece in enumerate(kept)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=200))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _unigrams(texts: list[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    """Learn pieces as SentencePiece does (Kudo 2018): spaces are U+2581, what no piece covers falls back to bytes."""
    unknown = _UNKNOWN["unigram"]
    spaces = pre_tokenizers.Metaspace(prepend_scheme="never")
    sketch = Tokenizer(models.Unigram())
    sketch.pre_tokenizer = spaces
    trainer = trainers.UnigramTrainer(
        vocab_size=max(vocab_size - 256 - len(specials), len(string.printable)),
        special_tokens=[unknown],
        unk_token=unknown,
        initial_alphabet=sorted(string.printable),
        show_progress=False,
    )
    sketch.train_from_iterator(texts, trainer)
    scores = _settled({piece: score for piece, score in _pieces(sketch) if piece != unknown})
    learned = sorted(scores, key=lambda piece: (-scores[piece], piece))
    # So low that "<0x41>" written in a text is read as its six letters, not as a byte.
    byte_score = 20 * min(scores.values())
    vocabulary = [(unknown, 0.0), *((token, 0.0) for token in specials)]
    vocabulary += [(f"<0x{byte:02X}>", byte_score) for byte in range(256)]
    vocabulary += [(piece, scores[piece]) for piece in learned]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = spaces
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _pieces(tokenizer: Tokenizer) -> list[tuple[str, float]]:
    return [(str(piece), float(score)) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


def _settled(scores: dict[str, float]) -> dict[str, float]:
    """Return scores that are the same in every run.

    Threads add numbers up in any order, which changes the last digits. And letters that no text has get the
    lowest score and up in steps of 0.0001, in the order of a hash table: here they all get the lowest.
    """
    lowest = min(scores.values())
    unused = lowest + len(string.printable) * 0.0001 + 1e-6
    return {piece: round(lowest if len(piece) == 1 and score < unused else score, 6) for piece, score in scores.items()}


def _special_tokens(base: Path) -> list[str]:
    """Return the special tokens of a model folder in the order of their ids."""
    definition = json.loads((base / "tokenizer.json").read_bytes())
    added = sorted(definition.get("added_tokens") or (), key=lambda token: int(token["id"]))
    return [str(token["content"]) for token in added if token.get("special")]


def _texts(sample: Sample, split: Split) -> Iterator[str]:
    for example in sample.examples(frozenset((split,))):
        yield from (message.content for message in example.messages if message.content)


def _write(tokenizer: Tokenizer, algorithm: Algorithm, base: Path, out: Path) -> None:
    """Write the files that transformers and vLLM look for, too."""
    out.mkdir(parents=True, exist_ok=True)
    unknown = {"unk_token": _UNKNOWN[algorithm]} if algorithm in _UNKNOWN else {}
    write_atomic(out / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        table = read_json(base / name) | unknown
        for key in ("added_tokens_decoder", "auto_map", "vocab_file", "merges_file"):  # the base's ids and files
            table.pop(key, None)
        if name == "tokenizer_config.json":
            table["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_atomic(out / name, json.dumps(table, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
    if (base / "chat_template.jinja").is_file():
        write_atomic(out / "chat_template.jinja", (base / "chat_template.jinja").read_bytes())


def _compare(sample: Sample, base: TokenCounter, own: TokenCounter) -> dict[str, Any]:
    """Return the fertility of both tokenizers on text that neither the new one nor a tuned model has seen."""
    splits: tuple[Split, ...] = ("test", "validation")
    for split in splits:
        if texts := list(_texts(sample, split)):
            told = {}
            for name, counter in (("base", base), ("own", own)):
                fertility = Fertility()
                for text, ids in zip(texts, counter.encode(texts), strict=True):
                    fertility.add(text, len(ids))
                told[name] = fertility.told()
            saved = 1 - told["own"]["tokens"] / max(1, told["base"]["tokens"])
            return {"split": split, "texts": len(texts), **told, "share_of_tokens_saved": round(saved, 4)}
    return {}
