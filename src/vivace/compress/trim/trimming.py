"""Trim a model's vocabulary to a domain: count, choose, prove, and write."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from tokenizers import Tokenizer

from vivace.compress.folder import read_config, whole_folder
from vivace.compress.trim.embeddings import Embeddings, check_shapes, find_embeddings
from vivace.compress.trim.exactness import check_trimmable
from vivace.compress.trim.figures import fertility_figures, weight_figures
from vivace.compress.trim.proof import RANDOM_TEXTS, Compared, batches, compare, random_texts
from vivace.compress.trim.rows import copy_weights
from vivace.compress.trim.selection import Selection, Selector
from vivace.compress.trim.token_ids import ids_in, renumber
from vivace.compress.trim.tokenizer_files import renumbered, write_tokenizer
from vivace.compress.trim.vocabulary import Vocabulary
from vivace.data.tokens.counting import Ids, token_counts
from vivace.domain import Message, Progress, SilentProgress
from vivace.errors import DataError, ModelError, RequestError
from vivace.models import ChatTokenizer, check_data_only, identify, size_bytes
from vivace.models.tokenizer import read_json
from vivace.store.files import guard_disk, write_atomic

_PRIVATE_KEYS = ("_name_or_path",)
_SAMPLES = (
    (Message("user", "Hello"),),
    (Message("system", "You help."), Message("user", "Hello"), Message("assistant", "Hi."), Message("user", "Bye")),
)


class _Trimmed(Struct, frozen=True):
    """A vocabulary's smaller version and what was compared to prove it."""

    selection: Selection
    tokenizer: Tokenizer
    domain: Compared
    random: Compared


def trim_vocabulary(
    model_folder: Path,
    texts: Iterable[str],
    out: Path,
    *,
    keep: float = 0.25,
    min_count: int = 1,
    multiple: int = 64,
    held_out: Iterable[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a Hugging Face model with fewer tokens into `out`, which appears whole or not at all; return the figures.

    `texts` are the domain's, rendered by the chat template; they are gone through several times. What they use
    `min_count` times stays, with special tokens, single bytes and all that they are merged from; then the most general
    tokens up to `keep` (a share of the vocabulary up to 1, a number of tokens above), rounded up to `multiple`. No row
    is invented. The tokenizer gives every text back exactly as before, and cuts it as before where its tokens are kept;
    the logits of kept tokens are the same. (Cf. Abdaoui et al. 2020, https://arxiv.org/abs/2010.05609.)

    Raises `ModelError` with the reason for a model or tokenizer that cannot be trimmed so.
    """
    shown = progress or SilentProgress()
    config = _checked(model_folder)
    vocabulary = Vocabulary.open(model_folder)
    check_trimmable(vocabulary)
    embeddings = find_embeddings(model_folder, config)
    generation = read_json(model_folder / "generation_config.json")
    beyond = [name for number, name in vocabulary.names.items() if number >= embeddings.rows]
    if beyond:
        raise ModelError(f"The token {beyond[0]!r} of {model_folder} has no row in its embedding.")
    guard_disk(out, size_bytes(model_folder))
    corpus = _corpus(texts, ChatTokenizer.open(model_folder))
    selector = Selector(vocabulary, [*ids_in(config), *ids_in(generation)], embeddings.rows)
    with shown.task("Counting the domain's tokens"):
        counts = _counts(vocabulary, corpus())
    sizes = {"keep": keep, "min_count": min_count, "multiple": multiple}
    with shown.task("Proving that every text comes back"):
        made = _proven(vocabulary, selector, counts, sizes, corpus())
    numbers = made.selection.numbers
    public = {key: value for key, value in config.items() if key not in _PRIVATE_KEYS}
    smaller = renumber(public, numbers, embeddings.rows)
    check_shapes(model_folder, smaller, embeddings, len(numbers))
    with shown.task("Writing the trimmed model"), whole_folder(out) as aside:
        write_tokenizer(made.tokenizer, vocabulary, numbers, model_folder, aside)
        _write_json(aside / "config.json", smaller)
        _write_generation(aside, renumber(generation, numbers, embeddings.rows))
        copy_weights(model_folder, aside, dict.fromkeys(embeddings.tensors, made.selection.ids))
    return _facts(model_folder, out, vocabulary, embeddings, counts, made, held_out)


def _checked(folder: Path) -> dict[str, Any]:
    model = identify(folder)
    if model.format != "hf":
        hint = "Merge it first." if model.format == "adapter" else "Trim the vocabulary before it is exported."
        raise ModelError(f"{folder} is in format {model.format!r}; only Hugging Face models are trimmed.", hint)
    check_data_only(folder)
    config = read_config(folder)
    if config.get("is_encoder_decoder"):
        raise ModelError(f"{folder} is an encoder-decoder, and only decoders are trimmed.")
    return config


def _corpus(texts: Iterable[str], chat: ChatTokenizer) -> Callable[[], Iterator[str]]:
    """Return a function that gives all texts, again and again, beginning with what the template itself writes."""
    again = texts if iter(texts) is not texts else list(texts)
    if not any(True for _text in again):
        raise DataError("There are no texts of the domain to trim a vocabulary to.", "Run `vivace data` first.")
    written = []
    for messages in _SAMPLES if chat.template else ():
        try:
            written += [chat.render(messages), chat.render(messages, add_generation_prompt=False)]
        except RequestError:
            continue  # such as a template without a system turn
    return lambda: chain(written, again)


def _counts(vocabulary: Vocabulary, texts: Iterable[str]) -> Ids:
    size = max(vocabulary.names) + 1
    counts = np.zeros(size, dtype=np.int64)
    for batch in batches(texts):
        found = vocabulary.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        counts += token_counts((one.ids for one in found), size)
    return counts


def _proven(
    vocabulary: Vocabulary, selector: Selector, counts: Ids, sizes: dict[str, Any], texts: Iterable[str]
) -> _Trimmed:
    """Choose tokens, and compare the tokenizer that has them with the whole one on the domain's and random texts."""
    selection = selector.select(counts, **sizes)
    tokenizer = renumbered(vocabulary, selection.numbers)
    domain = compare(vocabulary, tokenizer, selection.numbers, texts)
    markers = sorted(vocabulary.added)
    tried = compare(vocabulary, tokenizer, selection.numbers, random_texts(RANDOM_TEXTS, 0, markers))
    for found in (domain, tried):
        if found.differences:
            raise _not_exact(vocabulary, found)
    return _Trimmed(selection, tokenizer, domain, tried)


def _not_exact(vocabulary: Vocabulary, found: Compared) -> ModelError:
    first = found.differences[0]
    return ModelError(
        f"The vocabulary of {vocabulary.origin} cannot be trimmed: a text {first.what}: {first.text[:80]!r}.",
        'Set method = "none" in [compress.trim].',
    )


def _facts(
    folder: Path,
    out: Path,
    vocabulary: Vocabulary,
    embeddings: Embeddings,
    counts: Ids,
    made: _Trimmed,
    held_out: Iterable[str],
) -> dict[str, Any]:
    chosen = made.selection
    return {
        "algorithm": vocabulary.kind,
        "tied": embeddings.tied,
        "vocab_size_before": embeddings.rows,
        "vocab_size_after": len(chosen.ids),
        "tokens_dropped": embeddings.rows - len(chosen.ids),
        "tokens_used": int(np.count_nonzero(counts)),
        "kept": {
            "must": chosen.must,
            "domain": chosen.domain,
            "ancestors": chosen.ancestors,
            "general": chosen.general,
        },
        "proof": {
            "domain_texts": made.domain.texts,
            "identical_pieces": made.domain.identical_pieces,
            "with_dropped_tokens": made.domain.with_dropped_tokens,
            "random_texts": made.random.texts,
        },
        **weight_figures(folder, out, embeddings, len(chosen.ids)),
        "fertility": fertility_figures(vocabulary, made.tokenizer, held_out),
    }


def _write_generation(folder: Path, generation: dict[str, Any]) -> None:
    """Write how a model generates; engines read the ends of an answer from here alone."""
    path = folder / "generation_config.json"
    _write_json(path, generation)
    ends = sorted(ChatTokenizer.open(folder).eos_ids)
    _write_json(path, generation | ({"eos_token_id": ends} if ends else {}))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
