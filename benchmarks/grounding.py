"""Faithfulness on DSTC11 track 5: people's answers with the documents they had, against other documents of the place.

    python -m benchmarks.grounding kb_hospitality_dstc11_dialogues.jsonl.gz kb_hospitality_dstc11_documents.jsonl.gz

The weights are fitted on the split train, the threshold is chosen on validation so that nine in ten claims pass with
their own documents, and everything that is told is from the split test.
"""

import argparse
import gzip
import json
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vivace.evaluate.grounding.facts import NUMBER_WORDS, claims, is_claim, numbers
from vivace.evaluate.grounding.support import Weights, claim_features, cut_sources, faithfulness
from vivace.evaluate.judge.figures import Resampling, auc
from vivace.index.embedders import open_embedder
from vivace.index.embedders.remembered import Remembered
from vivace.stats import proportion_interval

PASS = 0.9
SIGNS = (1, 1, -1, -1, 1)


def main() -> None:
    """Fit, choose, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialogues", type=Path)
    parser.add_argument("documents", type=Path)
    parser.add_argument("--limit", type=int, default=10**6, help="rows of each split")
    chosen = parser.parse_args()
    rows = _rows(chosen.dialogues, chosen.documents, chosen.limit)
    for name in ("", "minilm"):
        embedder = Remembered(open_embedder(name)) if name else None
        width = 5 if name else 4
        tables = {split: _table(part, embedder) for split, part in rows.items()}
        weights = _fit(tables["train"], tables["validation"], width)
        print(
            json.dumps(
                {
                    "embedder": name,
                    "intercept": weights.intercept,
                    "weights": weights.weights,
                    "threshold": weights.threshold,
                }
            )
        )
        every = [row for part in rows.values() for row in part]  # no number was looked at when the weights were fitted
        told = _told(rows["test"], tables["test"], weights, embedder) | _swaps(every, weights, embedder)
        print(json.dumps(told, indent=1))


def _rows(dialogues: Path, documents: Path, limit: int) -> dict[str, list[dict[str, Any]]]:
    texts, places = {}, defaultdict(list)
    for line in gzip.decompress(documents.read_bytes()).splitlines():
        row = json.loads(line)
        texts[row["doc_id"]] = f"{row['entity']}. {row.get('title') or ''} {row['text']}".replace("  ", " ")
        places[_place(row["doc_id"])].append(row["doc_id"])
    made: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    rng = random.Random(0)
    for line in gzip.decompress(dialogues.read_bytes()).splitlines():
        row = json.loads(line)
        own = row["gold_doc_ids"]
        if not own or not row["response"] or len(made[row["split"]]) >= limit:
            continue
        others = [name for place in sorted({_place(name) for name in own}) for name in places[place] if name not in own]
        if len(others) < len(own):
            continue
        wrong = rng.sample(others, len(own))
        made[row["split"]].append(
            {
                "id": row["id"],
                "answer": row["response"],
                "own": [texts[n] for n in own],
                "wrong": [texts[n] for n in wrong],
            }
        )
    return made


def _place(name: str) -> str:
    return ":".join(name.split(":")[:2])


def _table(rows: list[dict[str, Any]], embedder: Any) -> dict[str, Any]:
    features, labels, groups = [], [], []
    for row in rows:
        told = [text for text in claims(row["answer"]) if is_claim(text)]
        for side in ("own", "wrong"):
            if told:
                found, _ = claim_features(told, cut_sources(row[side]), embedder)
                features.extend(found)
                labels += [side == "own"] * len(told)
                groups += [row["id"]] * len(told)
    return {"features": np.asarray(features), "labels": labels, "groups": groups}


def _fit(train: dict[str, Any], validation: dict[str, Any], width: int) -> Weights:
    from sklearn.linear_model import LogisticRegression

    # A weight of the wrong sign is chance or collinearity; more words in the sources must never speak against a claim.
    kept = list(range(width))
    while True:
        model = LogisticRegression(C=1.0, max_iter=1000).fit(train["features"][:, kept], train["labels"])
        wrong = [place for place, own in zip(kept, model.coef_[0], strict=True) if own * SIGNS[place] < 0]
        if not wrong:
            break
        kept = [place for place in kept if place not in wrong]
    found = dict(zip(kept, model.coef_[0], strict=True))
    values = tuple(round(float(found.get(place, 0.0)), 3) for place in range(width))
    weights = Weights(round(float(model.intercept_[0]), 3), values, 0.5)
    own = weights.probability(validation["features"])[np.asarray(validation["labels"])]
    return Weights(weights.intercept, weights.weights, round(float(np.quantile(own, 1 - PASS)), 3))


def _told(rows: list[dict[str, Any]], table: dict[str, Any], weights: Weights, embedder: Any) -> dict[str, Any]:
    how = Resampling()
    chances = weights.probability(table["features"])
    by_claim = auc(list(chances), table["labels"], table["groups"], [""] * len(chances), how)
    least, good, ids = [], [], []
    labels: dict[str, dict[str, int]] = {side: defaultdict(int) for side in ("own", "wrong")}
    for row in rows:
        for side in ("own", "wrong"):
            found = faithfulness(row["id"], row["answer"], row[side], embedder, weights)
            for claim in found.claims:
                labels[side][claim.label] += 1
            if found.probability is not None:
                least.append(found.probability)
                good.append(side == "own")
                ids.append(row["id"])
    by_answer = auc(least, good, ids, [""] * len(ids), how)
    own = np.asarray(table["labels"])
    passed, caught = int((chances[own] >= weights.threshold).sum()), int((chances[~own] < weights.threshold).sum())
    features = table["features"]
    return {
        "answers": len(rows),
        "claims": len(own) // 2,
        "auc by claim": _figure(by_claim),
        "auc by answer": _figure(by_answer),
        "auc of one feature": [
            round(
                auc(
                    list(features[:, i] * s),
                    table["labels"],
                    table["groups"],
                    [""] * len(own),
                    Resampling(resamples=50),
                ).value,
                3,
            )
            for i, s in enumerate((1, 1, -1, -1, 1))
        ],
        "own claims that pass": _share(passed, int(own.sum())),
        "claims beside other documents that do not": _share(caught, int((~own).sum())),
        "numbers missing in own sources": _share(int((features[own][:, 2] > 0).sum()), int(own.sum())),
        "names missing in own sources": _share(int((features[own][:, 3] > 0).sum()), int(own.sum())),
        "labels": labels,
    }


def _swaps(rows: list[dict[str, Any]], weights: Weights, embedder: Any) -> dict[str, str]:
    """Return how often an answer with one changed number is found, and how often the same answer as it was."""
    found: dict[str, list[bool]] = {"changed": [], "as it was": [], "contradicted": []}
    for row in rows:
        swapped = _swapped(row["answer"], row["own"])
        if swapped is not None:
            for name, text in (("changed", swapped), ("as it was", row["answer"])):
                told = faithfulness(row["id"], text, row["own"], embedder, weights).claims
                found[name].append(any(each.missing and each.label != "supported" for each in told))
                if name == "changed":
                    found["contradicted"].append(any(each.label == "contradicted" for each in told))
    return {f"numbers, {name}": _share(sum(hits), len(hits)) for name, hits in found.items()}


def _swapped(answer: str, sources: list[str]) -> str | None:
    """Return the answer with one number that a source has changed to one that none has; None without such a number."""
    known = set().union(*map(numbers, sources))
    for match in re.finditer(r"(?<![\w.:$])\d+(?![\w:])|\b(?:" + "|".join(NUMBER_WORDS) + r")\b", answer):
        plain = NUMBER_WORDS.get(match[0], match[0])
        if plain in known:
            value = next(n for n in range(int(plain) + 1, 10**6) if str(n) not in known | numbers(answer))
            return answer[: match.start()] + str(value) + answer[match.end() :]
    return None


def _figure(score: Any) -> str:
    return f"{score.value:.3f} [{score.interval.low:.3f}, {score.interval.high:.3f}]"


def _share(hits: int, count: int) -> str:
    interval = proportion_interval(hits, count)
    return f"{hits}/{count} = {hits / count:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    main()
