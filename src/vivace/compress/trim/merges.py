"""Byte pair encoding as the tokenizers library does it, told with every piece made on the way."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

from vivace.compress.trim.vocabulary import Vocabulary


class Merges:
    """The merges of a BPE vocabulary (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909).

    Which pieces a text needs follows from two facts. A text is cut as before if every piece that was made on the way is
    still there, with all merges between pieces that are: the first merge of the whole list that applies was made, so it
    is there, and it is the first of the shorter list that applies; and so on. And a piece is made in a text exactly as
    it is made alone: no merge across its ends was applied, or it would not be there, and those within do not see what
    is outside. So the pieces between a token's letters and the token are found once and for all.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pieces = vocabulary.pieces
        self._rank = {pair: rank for rank, pair in enumerate(vocabulary.merges)}
        self._first: dict[str, tuple[str, str]] = {}
        for left, right in vocabulary.merges:
            self._first.setdefault(left + right, (left, right))
        self._ancestors: dict[str, frozenset[str]] = {}

    @property
    def products(self) -> list[str]:
        """Every piece that a merge makes, in the order of the first that does."""
        return list(self._first)

    def apply(self, symbols: Sequence[str]) -> tuple[list[str], set[str]]:
        """Return the pieces that a word's symbols become, and every piece that was made on the way."""
        texts: list[str | None] = list(symbols)
        count = len(texts)
        following = list(range(1, count + 1))
        before = list(range(-1, count - 1))
        queue: list[tuple[int, int, str]] = []
        for place in range(count - 1):
            pair = (symbols[place], symbols[place + 1])
            if (rank := self._rank.get(pair)) is not None:
                queue.append((rank, place, "".join(pair)))
        heapify(queue)
        made: set[str] = set()
        while queue:
            _rank, place, product = heappop(queue)
            left, after = texts[place], following[place]
            right = texts[after] if after < count else None
            # An entry that is out of date still counts when the pair now at its place makes the same piece.
            if left is None or right is None or (left, right) not in self._rank or left + right != product:
                continue
            made.add(product)
            texts[place], texts[after] = product, None
            following[place] = following[after]
            if following[place] < count:
                before[following[place]] = place
            for start in (before[place], place):
                if start >= 0 and following[start] < count:
                    pair = (texts[start] or "", texts[following[start]] or "")
                    if (rank := self._rank.get(pair)) is not None:
                        heappush(queue, (rank, start, "".join(pair)))
        return [text for text in texts if text is not None], made

    def ancestors(self, piece: str) -> frozenset[str]:
        """Return the pieces without which `piece` is not made: its letters and all between; none if it never is."""
        if piece not in self._ancestors:
            self._ancestors[piece] = self._find(piece)
        return self._ancestors[piece]

    def close(self, pieces: Iterable[str]) -> set[str]:
        """Return pieces with all their ancestors."""
        closed: set[str] = set()
        for piece in pieces:
            closed.add(piece)
            closed |= self.ancestors(piece)
        return closed

    def can_make(self, piece: str) -> bool:
        """Tell whether any text has this piece, other than one that is looked up whole."""
        return len(piece) == 1 or bool(self.ancestors(piece))

    def _find(self, piece: str) -> frozenset[str]:
        if piece not in self._first:
            return frozenset()
        letters = [letter for letter in piece if letter in self._pieces]
        ends, made = self.apply(letters)
        return frozenset((made | set(letters)) - {piece}) if ends == [piece] else frozenset()
