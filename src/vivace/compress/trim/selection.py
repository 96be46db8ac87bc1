"""Which tokens stay: what must, what the domain uses, and the most general ones up to a size."""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from vivace.compress.trim.merges import Merges
from vivace.compress.trim.vocabulary import Vocabulary
from vivace.data.tokens.counting import Ids
from vivace.errors import ConfigError


class Selection(Struct, frozen=True):
    """The old ids that stay, in the order of their new ones, and how many for which reason."""

    ids: tuple[int, ...]
    must: int  # special tokens, bytes, letters, and what the configuration names
    domain: int  # what the domain uses besides
    ancestors: int  # what those are merged from
    general: int  # the most general ones of the rest

    @property
    def numbers(self) -> dict[int, int]:
        """The new id of each old one."""
        return {old: new for new, old in enumerate(self.ids)}


class Selector:
    """Chooses tokens of one vocabulary; `rows` is how many the model's embedding has."""

    def __init__(self, vocabulary: Vocabulary, configured: Iterable[int], rows: int) -> None:
        self._vocabulary = vocabulary
        self.merges = Merges(vocabulary) if vocabulary.kind == "BPE" else None
        named = {number for number in configured if 0 <= number < rows}
        self._nameless = sorted(named - vocabulary.names.keys())
        self._must = named & vocabulary.names.keys() | {
            *vocabulary.added.values(),
            *(vocabulary.pieces[piece] for piece in _atoms(vocabulary)),
        }
        self._general = [vocabulary.pieces[piece] for piece in self._order()]

    def select(self, occurrences: Ids, *, keep: float, min_count: int, multiple: int) -> Selection:
        """Return what stays: at least `keep` tokens (a share of all up to 1, a number above), a multiple of `multiple`.

        What the domain uses `min_count` times stays even when that is more.
        """
        if keep <= 0 or min_count < 1 or multiple < 1:
            raise ConfigError("keep, min_count and multiple of a trimmed vocabulary are positive.")
        every = len(self._vocabulary.names) + len(self._nameless)
        used = {int(number) for number in np.flatnonzero(occurrences >= min_count)}
        used &= self._vocabulary.names.keys()
        kept = self._closed(self._must | used)
        asked = max(round(keep * every) if keep <= 1 else round(keep), len(kept) + len(self._nameless))
        room = min(-(-asked // multiple) * multiple, every) - len(self._nameless)
        filled = self._fill(kept, room)
        return Selection(
            ids=(*self._in_order(filled), *self._nameless),
            must=len(self._must) + len(self._nameless),
            domain=len(used - self._must),
            ancestors=len(kept) - len(used | self._must),
            general=len(filled) - len(kept),
        )

    def _closed(self, ids: set[int]) -> set[int]:
        if self.merges is None:
            return set(ids)
        names, pieces = self._vocabulary.names, self._vocabulary.pieces
        closed = self.merges.close(names[number] for number in ids if names[number] in pieces)
        return ids | {pieces[piece] for piece in closed}

    def _fill(self, kept: set[int], room: int) -> set[int]:
        """Add the most general tokens with what they are merged from, as long as they fit; useless ones come last."""
        filled = set(kept)
        for useful in (True, False):
            for number in self._general:
                if len(filled) >= room:
                    return filled
                if number in filled or self._is_useful(number) is not useful:
                    continue
                wanted = self._closed({number}) - filled
                if len(filled) + len(wanted) <= room:
                    filled |= wanted
        return filled

    def _is_useful(self, number: int) -> bool:
        """Tell whether some text has the token; vocabularies also hold merges that never come to their turn."""
        if self.merges is None or self._vocabulary.model.get("ignore_merges"):
            return True
        return self.merges.can_make(self._vocabulary.names[number])

    def _in_order(self, ids: set[int]) -> list[int]:
        """Sort by the old ids, the model's pieces first: the library counts added tokens on from them."""
        pieces = set(self._vocabulary.pieces.values())
        return sorted(ids, key=lambda number: (number not in pieces, number))

    def _order(self) -> list[str]:
        """Return the pieces by how general they are: merges and scores come from the text the tokenizer learned."""
        vocabulary = self._vocabulary
        by_id = sorted(vocabulary.pieces, key=lambda piece: vocabulary.pieces[piece])
        if vocabulary.kind == "Unigram":
            return sorted(by_id, key=lambda piece: -vocabulary.scores[piece])
        if self.merges is not None:
            made = [piece for piece in self.merges.products if piece in vocabulary.pieces]
            return list(dict.fromkeys([*made, *by_id]))
        return by_id


def _atoms(vocabulary: Vocabulary) -> set[str]:
    """Return the pieces without which some text could not be written, or would be read back as another."""
    atoms = {
        *vocabulary.byte_pieces.values(),
        *([vocabulary.unknown] if vocabulary.unknown in vocabulary.pieces else []),
    }
    letters = {piece for piece in vocabulary.pieces if len(piece.removeprefix(vocabulary.prefix)) == 1}
    letters |= {piece for piece in vocabulary.pieces if len(piece) == 1}
    if not vocabulary.falls_back:
        return atoms | letters
    return atoms | {letter for letter in letters if not _is_its_bytes(letter, vocabulary)}


def _is_its_bytes(letter: str, vocabulary: Vocabulary) -> bool:
    """Tell whether a character may be written as bytes: not one such as U+2581, which is read as a space."""
    written = [vocabulary.byte_pieces[byte] for byte in letter.encode()]
    decoder = vocabulary.tokenizer.decoder
    return bool(decoder.decode(["a", letter, "a"]) == decoder.decode(["a", *written, "a"]))
