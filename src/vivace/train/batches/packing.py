"""How rows of tokens are laid out as tensors: one conversation a line, or several that do not see one another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vivace.errors import ModelError
from vivace.train.batches.rows import IGNORED
from vivace.train.head_loss import backbone


def collate(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Return a batch with one conversation a line, padded to the longest; all shapes (rows, T), `shares` (rows,)."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), length), pad_id)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        size = len(row["input_ids"])
        ids[i, :size] = torch.tensor(row["input_ids"])
        labels[i, :size] = torch.tensor(row["labels"])
        mask[i, :size] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if any(row["share"] != 1.0 for row in rows):
        batch["shares"] = torch.tensor([row["share"] for row in rows])
    return batch


def collate_packed(rows: Sequence[dict[str, Any]], pad_id: int, longest: int) -> dict[str, Tensor]:
    """Return the same conversations with several on a line of at most `longest` tokens; all shapes (lines, T).

    `position_ids` begin anew with each conversation. Without an attention mask, transformers reads that as the border
    no token looks across; each padding token is a conversation of its own.
    """
    lines = pack([len(row["input_ids"]) for row in rows], longest)
    length = max(sum(len(rows[i]["input_ids"]) for i in line) for line in lines)
    ids = torch.full((len(lines), length), pad_id)
    labels, positions = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    shares = torch.ones(ids.shape)
    for number, line in enumerate(lines):
        start = 0
        for row in (rows[i] for i in line):
            end = start + len(row["input_ids"])
            ids[number, start:end] = torch.tensor(row["input_ids"])
            # The first token is not said after the end of the conversation before.
            labels[number, start + 1 : end] = torch.tensor(row["labels"][1:], dtype=torch.long)
            positions[number, start:end] = torch.arange(end - start)
            shares[number, start:end] = row["share"]
            start = end
    batch = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return batch if all(row["share"] == 1.0 for row in rows) else batch | {"shares": shares}


def pack(lengths: Sequence[int], longest: int) -> list[list[int]]:
    """Return which rows share a line, best fit decreasing: a line holds `longest` tokens, or one row that is longer."""
    lines: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [line for line in range(len(lines)) if room[line] >= lengths[i]]
        if fitting:
            line = min(fitting, key=lambda line: room[line])
            lines[line].append(i)
            room[line] -= lengths[i]
        else:
            lines.append([i])
            room.append(longest - lengths[i])
    return lines


def check_packing(model: Any) -> None:
    """Raise `ModelError` when conversations on one line would see one another in this model, found out by trying."""
    inner = backbone(model)
    count = int(inner.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    ids = torch.arange(3, 15, device=model.device) % count
    positions = torch.tensor([*range(7), *range(5)], device=model.device)
    training = inner.training
    inner.train(False)
    with torch.no_grad():
        together = inner(input_ids=ids[None], position_ids=positions[None], use_cache=False).last_hidden_state[0]
        apart = [inner(input_ids=part[None], use_cache=False).last_hidden_state[0] for part in (ids[:7], ids[7:])]
    inner.train(training)
    near = 1e-3 if together.dtype == torch.float32 else 5e-2
    if not torch.allclose(together.float(), torch.cat(apart).float(), rtol=near, atol=near):
        raise ModelError(
            f"In a {type(model).__name__}, conversations that share a row would see one another.",
            "Set packing = false in [train].",
        )
