"""The table `[data]` of `vivace.toml`, with its tables for labels, balance and augmentation."""

from typing import Annotated, Literal

from pydantic import Field

from vivace.config.table import Count, Fraction, Table

LABELS = ("language", "sentiment", "outcome", "complexity", "topic")


class LabelSettings(Table):
    """What conversations are labeled with."""

    fields: list[Literal["language", "sentiment", "outcome", "complexity", "topic"]] = [
        "language",
        "sentiment",
        "outcome",
        "complexity",
    ]
    """Labels to give. `topic` groups conversations by meaning and needs the embedder."""
    intent_field: str = "intent"
    """Metadata field with your own labels, if there is one."""
    embedder: str = "minilm"
    """Which embedder tells how close two texts are in meaning."""
    max_embedded: Count = 4000
    """At most so many conversations are embedded, a seeded sample; the others get the label a classifier learned."""
    max_topics: Count = 40
    """At most so many topics."""
    corrections: str = "labels.jsonl"
    """File with your corrections of labels, beside vivace.toml; `vivace data label` writes it."""


class BalanceSettings(Table):
    """How the training split is made even, and which of it is kept."""

    by: str = ""
    """Metadata field or label to balance by, such as `intent`. Empty: leave the composition as it is."""
    method: Literal["downsample", "upsample", "weights"] = "weights"
    """Leave some out, repeat some, or weigh the loss."""
    max_ratio: Annotated[float, Field(ge=1)] = 3.0
    """The largest class counts at most so many times as much as the smallest."""
    group_terms: list[str] = []
    """Further words whose mentions are counted in the composition, beside those for gender, age and religion."""
    keep_best: Count | None = None
    """Train on at most so many conversations: the most useful by quality and diversity. Empty: on all."""


class AugmentSettings(Table):
    """How training conversations are multiplied; every new one is marked synthetic."""

    methods: list[Literal["noise", "back_translation", "paraphrase", "from_documents"]] = []
    """Ways to make new conversations. Empty: none are made."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """At most this share of the training split is synthetic."""
    model: str = ""
    """Model that writes paraphrases and conversations from documents. Empty: the base model."""
    min_similarity: Fraction = 0.8
    """A new text closer in meaning to its origin than this is kept (cosine of the embedder); others are refused."""
    max_tokens: Count = 160
    """Longest text that a model writes, in tokens."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Sampling temperature of the model that writes."""


class DataSettings(Table):
    """What is read and how it is cleaned and split."""

    conversations: list[str] = []
    """Files, patterns or data folders of conversations: JSON Lines, JSON, CSV, Parquet, transcripts."""
    test: list[str] = []
    """Files with held-out conversations. Empty: `test_fraction` of the conversations is held out."""
    documents: list[str] = []
    """Files, folders or patterns of documents: Markdown, text, HTML, PDF, DOCX, JSON Lines."""
    format: str = ""
    """Format of the conversation files, a reader's name. Empty: told from each file's content."""
    columns: dict[str, str] = {}
    """Which column or key of your files is meant where it cannot be told, such as { question = "Query" }."""
    steps: list[str] = [
        "encoding",
        "whitespace",
        "signatures",
        "turns",
        "language",
        "quality",
        "personal",
        "exact_duplicates",
        "near_duplicates",
    ]
    """Cleaning steps in the order they run. Leave one out to switch it off."""
    max_conversations: Count | None = None
    """Use a seeded sample of at most this many conversations."""
    languages: list[str] = ["en"]
    """ISO 639-1 codes of the languages to keep. Empty: keep all."""
    min_turns: Count = 2
    """Drop conversations with fewer turns."""
    max_turns: Count = 40
    """Cut longer conversations into the first so many turns, ending with an assistant's turn."""
    max_chars: Count = 100_000
    """Drop conversations with more characters."""
    max_toxicity: Fraction = 0.95
    """Drop conversations with an answer whose toxicity score is above this. 1 turns this off."""
    min_relevance: Fraction = 0.3
    """Drop conversations whose opening has a cosine below this to the center of every main group (used when `steps`
    names `off_topic`). The scale is that of the embedder `minilm`."""
    near_duplicate_threshold: Fraction = 0.7
    """Jaccard similarity of word 3-grams above which two conversations are near-duplicates. 1 turns this off."""
    redact: list[Literal["email", "phone", "card", "iban", "ip_address", "url_token", "order_number", "person"]] = [
        "email",
        "phone",
        "card",
        "iban",
        "ip_address",
        "url_token",
    ]
    """Personal data replaced by placeholders such as [EMAIL_1]."""
    public_contacts: list[str] = []
    """Your own addresses and numbers, never redacted; "@example.com" stands for all of a domain. Those in `documents`
    are known."""
    order_number_pattern: str = r"\b[A-Z]{2,4}-\d{4,10}\b"
    """What an order number looks like (used when `redact` names `order_number`)."""
    validation_fraction: Fraction = 0.1
    """Share of conversations for validation."""
    test_fraction: Fraction = 0.1
    """Share of conversations held out for the test, unless `test` names files."""
    max_test_examples: Count = 200
    """At most so many test examples, a seeded sample of the rest is set aside."""
    split_field: str = "split"
    """Metadata field in which rows may name their split (train, validation, test). Empty: not looked at."""
    on_leakage: Literal["drop", "fail"] = "drop"
    """What happens when a conversation to learn from repeats one of the test set: it leaves, or the run fails."""
    group_by: str = ""
    """Metadata field (such as `customer`) whose conversations stay in one split. Empty: none."""
    seed: int = 0
    """Seed of sampling, splitting and augmentation."""
    workers: Count | None = None
    """Processes that clean. Empty: one per core, and none beside the command's own for small files."""
    label: LabelSettings = LabelSettings()
    """What conversations are labeled with."""
    balance: BalanceSettings = BalanceSettings()
    """How the training split is made even."""
    augment: AugmentSettings = AugmentSettings()
    """How training conversations are multiplied."""
