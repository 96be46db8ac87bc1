"""How hard each conversation is, and the order from easy to hard."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Model, Workspace
from vivace.models import load_causal_lm
from vivace.store.files import append_line, read_journal, write_atomic
from vivace.train.batches.rows import Row

LOSSES = "curriculum.jsonl"
CHUNK = 8


def difficulties(rows: Sequence[Row], measure: str, base: Model, workspace: Workspace) -> list[float]:
    """Return how hard each row is: its tokens (`length`), its turns, or the base model's mean `loss` on it."""
    if measure == "length":
        return [float(len(row.ids)) for row in rows]
    if measure == "turns":
        return [float(row.turns) for row in rows]
    return _base_losses(rows, base, workspace)


def _base_losses(rows: Sequence[Row], base: Model, workspace: Workspace) -> list[float]:
    """Return the base's loss per learned token on each row, in float32.

    Each chunk is noted in the scratch folder: what a killed run has measured is not measured again. Chunks are the same
    every time, so that padding cannot change a bit of it.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i))
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    journal = workspace.scratch / LOSSES
    known = _known(journal, _key(rows, base))
    with workspace.progress.task("Measuring difficulty", total=len(rows)) as task:
        model = load_causal_lm(base.path) if len(known) < len(chunks) else None
        for number, chunk in enumerate(chunks):
            if number >= len(known):
                found = row_losses(model, [rows[i] for i in chunk])
                append_line(journal, msgspec.json.encode(found))
                known.append(found)
            task.advance(len(chunk))
    losses = [0.0] * len(rows)
    for chunk, values in zip(chunks, known, strict=True):
        for i, value in zip(chunk, values, strict=True):
            losses[i] = value
    return losses


def row_losses(model: Any, rows: Sequence[Row]) -> list[float]:
    """Return the model's loss per learned token on each row."""
    import torch

    from vivace.train.batches.packing import collate
    from vivace.train.head_loss import backbone, head_loss, is_plain_head

    batch = collate([{"input_ids": row.ids, "labels": row.labels, "share": 1.0} for row in rows], pad_id=0)
    labels = batch.pop("labels")
    with torch.no_grad():
        if is_plain_head(model):
            hidden, head = backbone(model)(**batch, use_cache=False).last_hidden_state, model.get_output_embeddings()
            totals = [head_loss(hidden[i : i + 1], head.weight, labels[i : i + 1])[0] for i in range(len(rows))]
        else:  # one row at a time: the logits of several may not fit
            totals = [
                model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss * row.learned
                for row in rows
            ]
    return [float(total) / row.learned for total, row in zip(totals, rows, strict=True)]


def _known(journal: Path, key: str) -> list[list[float]]:
    """Return the chunks measured so far; a journal of another dataset or base is begun anew."""
    lines = read_journal(journal)
    if not lines or msgspec.json.decode(lines[0]) != key:
        write_atomic(journal, msgspec.json.encode(key) + b"\n")
        return []
    return [msgspec.json.decode(line) for line in lines[1:]]


def _key(rows: Sequence[Row], base: Model) -> str:
    return hashlib.sha256(msgspec.msgpack.encode((str(base.path), tuple(rows)))).hexdigest()


def in_stages(views: Sequence[int], difficulty: Sequence[float], stages: int) -> list[list[int]]:
    """Return the same row numbers in stages; each stage adds the next harder share of the rows to those before.

    The baby steps of Bengio et al. 2009 (https://doi.org/10.1145/1553374.1553380), with as many views of each row as
    in `views`: those of an easy row are spread over all stages, those of the hardest rows all come last.
    """
    rows = sorted(set(views), key=lambda i: (difficulty[i], i))
    share = {row: rank * stages // len(rows) for rank, row in enumerate(rows)}
    found: list[list[int]] = [[] for _ in range(stages)]
    dealt = [0] * stages
    for row in views:
        first = share[row]
        found[first + dealt[first] % (stages - first)].append(row)
        dealt[first] += 1
    return found
