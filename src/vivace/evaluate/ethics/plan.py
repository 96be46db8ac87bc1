"""What a candidate is asked: made once from the dataset and the user's files, the same for every candidate."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from vivace.config.ethics import EthicsSettings
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Example
from vivace.errors import ConfigError
from vivace.evaluate.answers import is_scorable
from vivace.evaluate.ethics.asking import Question, Text
from vivace.evaluate.ethics.composition import Mentions, count_mentions
from vivace.evaluate.ethics.files import Pair, Requested, read_injections, read_pairs, read_requests
from vivace.evaluate.ethics.groups import read_dimensions
from vivace.evaluate.ethics.injection import Injected, asked, combine
from vivace.evaluate.ethics.inventory import Finder, Secret, find_secrets
from vivace.evaluate.ethics.memorized import Target, make_targets
from vivace.evaluate.ethics.swaps import Version, swap_examples


class Plan(Struct, frozen=True):
    """All that is asked; `notes` tell what was left out and why."""

    plain: tuple[Example, ...] = ()
    versions: tuple[Version, ...] = ()
    pairs: tuple[Pair, ...] = ()
    requests: tuple[Requested, ...] = ()
    injected: tuple[Injected, ...] = ()
    targets: tuple[Target, ...] = ()
    secrets: tuple[Secret, ...] = ()
    mentions: tuple[Mentions, ...] = ()
    notes: tuple[str, ...] = ()

    def questions(self) -> list[Question]:
        """Return everything that wants an answer, each once."""
        found = [Question(f"plain/{each.id}", each.prompt, each.tools) for each in self.plain]
        found += [Question(each.id, each.messages, each.tools) for each in self.versions]
        found += [Question(f"request/{each.id}", each.messages) for each in self.requests]
        documents = {each.document.id: each.document for each in self.injected}
        found += [Question(f"clean/{key}", asked(each.context, each.question)) for key, each in documents.items()]
        found += [Question(f"attack/{each.id}", each.messages) for each in self.injected]
        return found + [target.question() for target in self.targets]

    def texts(self) -> list[Text]:
        """Return everything whose likelihood is wanted."""
        found = []
        for pair in self.pairs:
            found += [Text(f"pair/{pair.id}/more", pair.more), Text(f"pair/{pair.id}/less", pair.less)]
        return found + [text for target in self.targets for text in target.texts()]


def make_plan(
    train: Sequence[Example],
    test: Sequence[Example],
    settings: EvaluateSettings,
    root: Path,
    *,
    personal: Finder | None = None,
    system: str = "",
) -> Plan:
    """Return what to ask about a model of this dataset; files are looked for from `root` on.

    Raises `ConfigError` or `DataError` for a file that is not what it should be.
    """
    wanted, notes = settings.ethics, list[str]()
    _check(wanted)
    at_most = wanted.max_examples
    usable = [example for example in test if is_scorable(example)]
    dimensions = read_dimensions(wanted.dimensions, _file(root, wanted.groups))
    versions: list[Version] = []
    for dimension in dimensions if usable else ():
        made = swap_examples(usable, dimension, at_most=at_most, introduce=wanted.introduce)
        versions += made.versions
        notes.append(
            f"{dimension.name}: {made.mention} test conversations mention one group and were swapped, in "
            f"{made.introduced} that mention none the customer was introduced, {made.several} mention several groups "
            "and were left out."
        )
    pairs = read_pairs(path) if (path := _file(root, wanted.pairs)) else []
    requests = _chosen_requests(path, at_most, notes) if (path := _file(root, wanted.refusals)) else []
    injected = combine(*read_injections(path), at_most) if (path := _file(root, wanted.injections)) else []
    secrets = find_secrets(train, personal) if wanted.secrets else []
    by_id: Mapping[str, Example] = {example.id: example for example in train}
    targets = make_targets(secrets, by_id, at_most=at_most, alternatives=wanted.alternatives, system=system)
    if len(targets) < len(secrets):
        notes.append(
            f"{len(secrets)} secret-looking texts are in the training data; {len(targets)} of them were tried on the "
            "model: those it was taught to say first, at most max_examples, none that its conversation says before."
        )
    return Plan(
        plain=tuple(_sample(usable, at_most)),
        versions=tuple(versions),
        pairs=tuple(pairs),
        requests=tuple(requests),
        injected=tuple(injected),
        targets=tuple(targets),
        secrets=tuple(secrets),
        mentions=tuple(count_mentions(train, dimensions, settings)) if train else (),
        notes=tuple(notes),
    )


def _check(wanted: EthicsSettings) -> None:
    """Raise `ConfigError` for a limit on what nothing is given to measure by."""
    for limit, file in (
        ("max_stereotype", "pairs"),
        ("min_refusal", "refusals"),
        ("max_over_refusal", "refusals"),
        ("max_injection", "injections"),
    ):
        if getattr(wanted, limit) is not None and not getattr(wanted, file):
            raise ConfigError(
                f"[evaluate.ethics] {limit} = {getattr(wanted, limit):g} cannot be checked without a file of {file}.",
                f'Such as: {file} = "data/{file}.jsonl"',
            )


def _chosen_requests(path: Path, at_most: int, notes: list[str]) -> list[Requested]:
    """Return at most so many harmful and as many harmless requests."""
    every = read_requests(path)
    chosen = []
    for safe in (True, False):
        ordered = sorted(
            (each for each in every if each.safe is safe), key=lambda each: sha256(each.id.encode()).digest()
        )
        chosen += ordered[:at_most]
    if len(chosen) < len(every):
        notes.append(f"{len(chosen)} of {len(every)} requests were asked (max_examples of each kind).")
    return chosen


def _sample(examples: Sequence[Example], at_most: int) -> list[Example]:
    return sorted(examples, key=lambda each: sha256(each.id.encode()).digest())[:at_most]


def _file(root: Path, name: str | None) -> Path | None:
    return None if not name else root / name
