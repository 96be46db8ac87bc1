"""What rows are compared by: hashes of their words, a fingerprint, the keys of their MinHash bands."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

from vivace.data.corpus.spool import Spool
from vivace.data.rows import Row, is_turn
from vivace.domain import Message
from vivace.text import normalize_words

SHINGLE_WORDS = 3
BLOCK_ROWS = 2048
PERMUTATIONS = 256
MAX_MISS = 1e-3
MINHASH_SEED = 1
FINGERPRINT_BYTES = 16
KNOWN_WORDS = 1 << 20
_POLYNOMIAL = 0x9E3779B97F4A7C15
_INVERSE = pow(_POLYNOMIAL, -1, 1 << 64)
_KNOWN_POWERS: dict[int, np.ndarray] = {}


class Sketches(Struct, frozen=True):
    """Of n rows: fingerprints (16 bytes each), words (uint64 hashes, `counts` of each row), bands (uint64, n by b).

    `groups` are the values of `group_by`, `chars` the lengths, `hashes` of the content as read.
    """

    fingerprints: bytes
    words: bytes
    counts: list[int]
    bands: bytes
    groups: list[str]
    chars: list[int]
    held_out: list[bool]
    preferences: list[bool]
    hashes: bytes


class Sketcher:
    """Makes sketches with the bands that a similarity `threshold` needs; none for a threshold of 1."""

    def __init__(self, threshold: float) -> None:
        self.shape = bands_for(threshold) if threshold < 1 else (0, 1)
        self._words = _WordHashes()

    def sketch(self, rows: Sequence[Row]) -> Sketches:
        """Return the sketches of rows."""
        fingerprints: list[bytes] = []
        said: list[int] = []
        counts: list[int] = []
        for row in rows:
            spoken = words_of(row.example.messages)
            fingerprints.append(fingerprint(spoken, _verdict(row)))
            before = len(said)
            said.extend(self._words[word] for _role, words in spoken for word in words)
            counts.append(len(said) - before)
        words = np.array(said, dtype=np.uint64)
        grams, runs = ngrams(words, np.array(counts, dtype=np.int64), SHINGLE_WORDS)
        return Sketches(
            fingerprints=b"".join(fingerprints),
            words=words.tobytes(),
            counts=counts,
            bands=band_keys(grams, runs, *self.shape).tobytes(),
            groups=[row.group for row in rows],
            chars=[sum(len(message.content) for message in row.example.messages) for row in rows],
            held_out=[row.held_out for row in rows],
            preferences=[row.is_preference for row in rows],
            hashes=b"".join(
                hashlib.blake2b(row.example.content_hash.encode(), digest_size=16).digest() for row in rows
            ),
        )


class Columns:
    """Sketches of all rows of a corpus: words and bands on disk, the rest in memory."""

    def __init__(self, stem: Path) -> None:
        self._words = Spool(stem.with_suffix(".words"))
        self._bands_path = stem.with_suffix(".bands")
        self._bands_file = open(self._bands_path, "wb")  # noqa: SIM115 - closed by `seal`
        self._width = 0
        self._codes: dict[str, int] = {"": 0}
        self._parts: dict[str, list[np.ndarray]] = {
            "fingerprints": [], "hashes": [], "groups": [], "chars": [], "held_out": [], "preferences": []
        }  # fmt: skip
        self.fingerprints = self.hashes = np.zeros(0, dtype="V16")
        self.groups = np.zeros(0, dtype=np.int32)
        self.chars = np.zeros(0, dtype=np.int64)
        self.held_out = self.preferences = np.zeros(0, dtype=bool)

    def extend(self, sketches: Sketches) -> None:
        """Append the sketches of further rows."""
        count = len(sketches.counts)
        sizes = np.array(sketches.counts, dtype=np.int64) * 8
        self._words.extend_joined(sketches.words, sizes)
        self._bands_file.write(sketches.bands)
        self._width = len(sketches.bands) // 8 // count if count else self._width
        codes = [self._codes.setdefault(group, len(self._codes)) for group in sketches.groups]
        self._parts["fingerprints"].append(np.frombuffer(sketches.fingerprints, dtype="V16"))
        self._parts["hashes"].append(np.frombuffer(sketches.hashes, dtype="V16"))
        self._parts["groups"].append(np.array(codes, dtype=np.int32))
        self._parts["chars"].append(np.array(sketches.chars, dtype=np.int64))
        self._parts["held_out"].append(np.array(sketches.held_out, dtype=bool))
        self._parts["preferences"].append(np.array(sketches.preferences, dtype=bool))

    def seal(self) -> None:
        """End appending."""
        self._words.sync()
        self._bands_file.close()
        for name, parts in self._parts.items():
            if parts:
                setattr(self, name, np.concatenate(parts))
            parts.clear()

    def words(self, place: int) -> np.ndarray:
        """Return the hashes of a row's words in order."""
        return np.frombuffer(self._words.record(place), dtype=np.uint64)

    def word_blocks(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield blocks of `places` (ascending), the words of their rows one after another, and each row's count."""
        for start in range(0, len(places), BLOCK_ROWS):
            block = places[start : start + BLOCK_ROWS]
            rows = [self.words(int(place)) for place in block]
            yield block, np.concatenate(rows), np.array([len(row) for row in rows], dtype=np.int64)

    def band(self, number: int) -> np.ndarray:
        """Return one band's key of every row, shape (rows,)."""
        keys = np.memmap(self._bands_path, dtype=np.uint64, mode="r").reshape(-1, self._width)
        return np.ascontiguousarray(keys[:, number])

    @property
    def bands(self) -> int:
        """Return how many bands there are."""
        return self._width

    @property
    def group_names(self) -> list[str]:
        """Return the names of the groups by code; code 0 is no group."""
        return list(self._codes)

    def close(self) -> None:
        """Remove the files."""
        self._words.close()
        self._bands_file.close()
        self._bands_path.unlink(missing_ok=True)


def words_of(messages: tuple[Message, ...]) -> list[tuple[str, list[str]]]:
    """Return who said which words, in order; tool traffic and system prompts do not count."""
    return [(message.role, normalize_words(message.content)) for message in messages if is_turn(message)]


def fingerprint(spoken: Iterable[tuple[str, Sequence[str]]], verdict: str = "") -> bytes:
    """Return the hash of who said which words; case, punctuation, system prompt and tool traffic do not count.

    `verdict` is what somebody thought of the last turn: the same words with another one are another row.
    """
    text = "\n".join(f"{role} {' '.join(words)}" for role, words in spoken) + verdict
    return _hash(text, FINGERPRINT_BYTES)


def _verdict(row: Row) -> str:
    if not row.is_preference:
        return ""
    example = row.example
    return f"\n{example.messages[-1:]} {example.rejected} {example.rating}"


def shingles(words: np.ndarray, size: int = SHINGLE_WORDS) -> np.ndarray:
    """Return the distinct hashes, sorted, of the runs of `size` words; of a shorter text, of all it has."""
    return np.unique(ngrams(words, np.array([len(words)]), size)[0])


def ngrams(words: np.ndarray, counts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of the runs of `size` words of texts, and how many runs each text has.

    The texts stand in `words` one after another, `counts` words each. A text with fewer words has one run: all of it.
    Hashes are differences of prefix sums of a polynomial (Karp & Rabin 1987) modulo 2^64, mixed.
    """
    runs = np.maximum(1, counts - size + 1)
    firsts = np.cumsum(counts) - counts
    within = np.arange(int(runs.sum())) - np.repeat(np.cumsum(runs) - runs, runs)
    starts = np.repeat(firsts, runs) + within
    ends = starts + np.repeat(np.minimum(counts, size), runs)
    powers = _powers(_POLYNOMIAL, len(words) + 1)
    prefix = np.zeros(len(words) + 1, dtype=np.uint64)
    np.cumsum(words * powers[:-1], out=prefix[1:])
    return _mix((prefix[ends] - prefix[starts]) * _powers(_INVERSE, len(words) + 1)[starts]), runs


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of what either has that both have, of two arrays of distinct hashes."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common) if common else 0.0


def bands_for(threshold: float) -> tuple[int, int]:
    """Return bands and rows per band of the widest rows that miss a pair at `threshold` at most once in a thousand."""
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= MAX_MISS:
            return bands, rows
    return PERMUTATIONS, 1


def band_keys(grams: np.ndarray, runs: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Return the keys of `bands` bands of `rows` MinHash values each (Broder 1997), shape (texts, bands), uint64.

    `grams` are the texts' n-grams one after another, `runs` how many each has.
    """
    if not bands or not len(runs):
        return np.zeros((len(runs), bands), dtype=np.uint64)
    from rensa import RMinHash

    ends = np.concatenate([[0], np.cumsum(runs)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams, ends, bands * rows, MINHASH_SEED)
    digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(runs), bands, rows)
    keys = np.zeros((len(runs), bands), dtype=np.uint64)
    for row in range(rows):
        keys = _mix(keys ^ digests[:, :, row])
    return keys


def _hash(text: str, size_bytes: int) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=size_bytes).digest()


def _mix(values: np.ndarray) -> np.ndarray:
    """Return well-spread 64-bit numbers (the finalizer of splitmix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _powers(base: int, count: int) -> np.ndarray:
    """Return 1, base, base², … modulo 2^64."""
    known = _KNOWN_POWERS.get(base)
    if known is None or len(known) < count:
        factors = np.full(max(count, 1 << 16), base, dtype=np.uint64)
        factors[0] = 1
        known = _KNOWN_POWERS[base] = np.cumprod(factors)
    return known[:count]


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, the same in every process."""

    def __missing__(self, word: str) -> int:
        if len(self) >= KNOWN_WORDS:
            self.clear()
        value = self[word] = int.from_bytes(
            hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
        )
        return value
