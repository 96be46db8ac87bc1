"""What is uneven or repetitive about a dataset, in sentences with numbers."""

from vivace.data.balance.composition import NONE, Composition, Share
from vivace.data.balance.diversity import Diversity, Repetition

LARGE_SHARE = 0.5
LARGE_RATIO = 10
FEW_DISTINCT = 0.5
MIN_CONVERSATIONS = 20  # fewer tell nothing
NOT_RESOLVED_SHARE = 0.4
GROUP_RATIO = 3
MIN_GROUP_SHARE = 0.01
MIN_GROUP_MENTIONS = 20
FEW_VENDI = 15
_UNEVEN_BY_NATURE = ("language", "length", "sentiment", "outcome", "complexity")


def warnings(composition: Composition, diversity: Diversity | None = None) -> list[str]:
    """Return what a person should know before training, the gravest first; an empty list if there is nothing."""
    if composition.conversations < MIN_CONVERSATIONS:
        return []
    told = _repetitive(diversity) if diversity is not None else []
    for field, values in composition.fields.items():
        if field not in _UNEVEN_BY_NATURE:
            told.extend(_uneven(field, {value: share for value, share in values.items() if value != NONE}))
    told.extend(_badly_ended(composition.fields.get("outcome", {}), composition.conversations))
    told.extend(_one_sided(composition.groups))
    return told


def _uneven(field: str, values: dict[str, Share]) -> list[str]:
    if len(values) < 2:
        return []
    told: list[str] = []
    ranked = list(values.items())
    (largest, most), (smallest, least) = ranked[0], ranked[-1]
    if most.share > LARGE_SHARE:
        told.append(f'{most.share:.0%} of conversations have the {field} "{largest}".')
    if most.count >= LARGE_RATIO * least.count:
        told.append(
            f'The largest {field}, "{largest}" ({most.count:,}), is {most.count / least.count:,.0f} times the '
            f'smallest, "{smallest}" ({least.count:,}).'
        )
    return told


def _repetitive(diversity: Diversity) -> list[str]:
    told = [
        *_repeated("question", "questions", diversity.questions),
        *_repeated("answer", "answers", diversity.answers),
    ]
    if diversity.vendi is not None and diversity.sampled >= 100 and diversity.vendi < FEW_VENDI:
        told.append(
            f"{diversity.sampled:,} sampled conversations are as diverse as {diversity.vendi:.0f} wholly different "
            "ones (Vendi score of their openings)."
        )
    return told


def _repeated(one: str, many: str, repetition: Repetition) -> list[str]:
    if repetition.total < MIN_CONVERSATIONS or repetition.distinct_share >= FEW_DISTINCT:
        return []
    named = many if repetition.distinct != 1 else one
    sentence = f"{repetition.distinct:,} distinct {named} make up {repetition.total:,} conversations"
    text, count = repetition.most_repeated[0]
    return [f'{sentence}; the most repeated, "{_cut(text)}", stands in {count:,}.']


def _badly_ended(outcomes: dict[str, Share], total: int) -> list[str]:
    bad = sum(outcomes[name].count for name in ("unresolved", "escalated") if name in outcomes)
    if bad <= NOT_RESOLVED_SHARE * total:
        return []
    return [f"{bad / total:.0%} of conversations end unresolved or escalated: a model learns that, too."]


def _one_sided(groups: dict[str, Share]) -> list[str]:
    pairs = (("women", "men"), ("older people", "younger people"))
    told: list[str] = []
    for pair in pairs:
        more, less = sorted(pair, key=lambda name: -groups[name].count)
        if groups[more].share < MIN_GROUP_SHARE:
            continue
        if groups[more].count >= MIN_GROUP_MENTIONS and groups[more].count >= GROUP_RATIO * groups[less].count:
            told.append(
                f"{groups[more].share:.1%} of conversations mention {more}, {groups[less].share:.1%} mention {less}."
            )
    return told


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60] + " …"
