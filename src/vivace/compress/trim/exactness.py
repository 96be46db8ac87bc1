"""Which vocabularies can be trimmed so that every text provably decodes as before, and why others cannot.

A text is read back as the tokens of its pieces, joined. With fewer pieces it is cut elsewhere, so trimming is exact if

1. the joined text does not depend on where it is cut (the decoder), and
2. what is no text of its own (bytes, special tokens, the unknown) appears at exactly the same places.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vivace.compress.trim.vocabulary import Vocabulary
from vivace.errors import ModelError

# Canonical composition makes these ASCII characters out of others; all others come only from themselves.
_COMPOSED_ASCII = frozenset("K;`")


def check_trimmable(vocabulary: Vocabulary) -> None:
    """Raise `ModelError` with the reason when a smaller vocabulary could not give back every text exactly."""
    reason = _decoder_reason(vocabulary) or _REASONS.get(vocabulary.kind, _unknown_kind)(vocabulary)
    if reason:
        raise ModelError(
            f"The vocabulary of {vocabulary.origin} cannot be trimmed: {reason}.",
            'Set method = "none" in [compress.trim], or choose another base model.',
        )


def steps_of(part: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a tokenizer's part, those of sequences one by one; `key` is what a sequence calls them."""
    if not isinstance(part, Mapping):
        return
    if part.get("type") == "Sequence":
        for inner in part.get(key) or ():
            yield from steps_of(inner, key)
    else:
        yield part


def _decoder_reason(vocabulary: Vocabulary) -> str:
    steps = list(steps_of(vocabulary.definition.get("decoder"), "decoders"))
    if not steps:
        return "it has no decoder, so that tokens are joined by spaces"
    for step in steps:
        kind = step["type"]
        if kind in ("Fuse", "ByteLevel"):
            return ""  # one text from here on
        if kind == "Replace" and len(step["pattern"].get("String", "")) != 1:
            return "its decoder replaces more than one character at a time"
        if kind == "Metaspace" and not _one_space_a_word(vocabulary, step):
            return "its decoder drops spaces at the beginning of a text, however many the first token holds"
        if kind == "WordPiece" and (reason := _word_decoder_reason(vocabulary, step)):
            return reason
        if kind not in ("Replace", "ByteFallback", "Metaspace", "WordPiece"):
            return f"its decoder {kind} treats each token by itself"
    return ""


def _one_space_a_word(vocabulary: Vocabulary, decoder: Mapping[str, Any]) -> bool:
    if decoder.get("prepend_scheme") == "never":
        return True
    before = steps_of(vocabulary.definition.get("pre_tokenizer"), "pretokenizers")
    return any(
        step["type"] == "Metaspace" and step.get("split") and step.get("replacement") == decoder.get("replacement")
        for step in before
    )


def _word_decoder_reason(vocabulary: Vocabulary, decoder: Mapping[str, Any]) -> str:
    if vocabulary.kind != "WordPiece" or decoder.get("prefix") != vocabulary.prefix:
        return "its decoder joins words by a prefix that its pieces do not have"
    kinds = {step["type"] for step in steps_of(vocabulary.definition.get("pre_tokenizer"), "pretokenizers")}
    if decoder.get("cleanup") and "BertPreTokenizer" not in kinds:
        return "its decoder removes spaces before punctuation, which words may hold"
    return ""


def _pair_reason(vocabulary: Vocabulary) -> str:
    """BPE: the characters of a text never change, so only merges into tokens that are no text of their own matter."""
    model = vocabulary.model
    if model.get("dropout"):
        return "it leaves merges out at random (dropout)"
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "its pieces carry a mark within or at the end of words"
    bytes_ = set(vocabulary.byte_pieces.values())
    if any({left, right, left + right} & bytes_ for left, right in vocabulary.merges):
        return "its byte tokens take part in merges"
    products = {left + right for left, right in vocabulary.merges}
    reachable = vocabulary.special & (vocabulary.pieces.keys() if model.get("ignore_merges") else products)
    return _unmarked_reason(vocabulary, reachable)


def _word_piece_reason(vocabulary: Vocabulary) -> str:
    """WordPiece: a word is unknown exactly if one of its characters is, given that each has a piece of its own."""
    prefix, pieces = vocabulary.prefix, vocabulary.pieces
    if not prefix:
        return "the pieces that continue a word have no mark"
    for piece in pieces.keys() - {*vocabulary.added, vocabulary.unknown}:
        inside = piece.startswith(prefix)
        for place, character in enumerate(piece.removeprefix(prefix)):
            if (prefix * (inside or place > 0) + character) not in pieces:
                return f"{piece!r} holds {character!r}, which has no piece of its own"
    return ""


def _unigram_reason(vocabulary: Vocabulary) -> str:
    """Unigram: which characters are unknown, or bytes, is the same, given that each has a piece of its own."""
    pieces, scores = vocabulary.pieces, vocabulary.scores
    opaque = {*vocabulary.added, *vocabulary.byte_pieces.values(), vocabulary.unknown or ""}
    for piece in pieces.keys() - opaque:
        missing = next((character for character in piece if character not in pieces), None)
        if missing is not None:
            return f"{piece!r} holds {missing!r}, which has no piece of its own"
    for piece in vocabulary.byte_pieces.values():
        # A text that spells out a byte's token must never be read as that byte, whatever pieces are left.
        spelled = [scores.get(character) for character in piece]
        if any(score is None for score in spelled) or scores[piece] >= sum(score or 0.0 for score in spelled):
            return f"a text can spell out its byte token {piece}"
    return _unmarked_reason(vocabulary, vocabulary.special & pieces.keys())


def _unmarked_reason(vocabulary: Vocabulary, reachable: frozenset[str]) -> str:
    """Special tokens are cut out of a text before it is normalized; tell of one that can appear afterwards."""
    once = {token["content"] for token in vocabulary.definition["added_tokens"] if token["single_word"]}
    steps = list(steps_of(vocabulary.definition.get("normalizer"), "normalizers"))
    for content in sorted(reachable):
        if content in once or not all(_leaves_alone(step, content) for step in steps):
            return f"its special token {content!r} can be made by normalizing a text"
    return ""


def _leaves_alone(step: Mapping[str, Any], content: str) -> bool:
    kind = step["type"]
    if kind == "NFC":
        return content.isascii() and not _COMPOSED_ASCII & set(content)
    if kind == "Replace":
        written = step.get("content") or ""
        # What is removed or written must not complete the special token.
        return bool(written) and not set(written) & set(content)
    return kind == "Prepend" and not set(step.get("prepend") or "") & set(content)


def _unknown_kind(vocabulary: Vocabulary) -> str:
    return f"its algorithm is {vocabulary.kind}, not BPE, Unigram or WordPiece"


_REASONS = {"BPE": _pair_reason, "Unigram": _unigram_reason, "WordPiece": _word_piece_reason}
