"""Make a Hugging Face folder that rounds to four bits without loss, by some texts; run as a program it does one."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivace.compress.prune.decoder import Decoder, open_decoder, set_weight
from vivace.compress.prune.sample import Batch, make_batches
from vivace.compress.prune.walk import Walk, inputs_of
from vivace.compress.quantize.rounding import fitted
from vivace.errors import ModelError, VivaceError
from vivace.train.batches.rows import Row


def fit(folder: Path, out: Path, rows: Sequence[Sequence[int]], told: Callable[[int, int], None] | None = None) -> None:
    """Write the model in `folder` to `out` with matrices that symmetric int4 in blocks of 32 holds without loss.

    `rows` are token ids of the texts that it shall answer well. Layer after layer, each by what the fitted ones before
    it write; embeddings and output layer stay as they are. `told` hears how many layers of how many are done.
    """
    decoder = open_decoder(folder)
    batches = make_batches([Row(tuple(ids), tuple(ids)) for ids in rows])
    walks = [Walk(decoder, batch) for batch in batches]
    states = [walk.start for walk in walks]
    with torch.no_grad():
        for layer in range(len(decoder.layers)):
            _fit_layer(decoder, layer, _read(decoder, walks, states, layer))
            states = [walk.step(layer, hidden) for walk, hidden in zip(walks, states, strict=True)]
            if told is not None:
                told(layer + 1, len(decoder.layers))
    decoder.save(folder, out)


def _fit_layer(decoder: Decoder, layer: int, grams: dict[str, Tensor]) -> None:
    for name, linear in decoder.linears(layer).items():
        set_weight(linear, fitted(linear.weight, grams[name]))


def _read(decoder: Decoder, walks: Sequence[Walk], states: Sequence[Tensor], layer: int) -> dict[str, Tensor]:
    """Return X^T X [in, in] of what each matrix of a layer reads; those that read the same share it."""
    linears = decoder.linears(layer)
    grams: dict[str, Tensor] = {}
    shared: dict[str, str] = {}

    def collecting(batch: Batch) -> Callable[[str, Tensor], None]:
        last: list[Any] = [None, ""]

        def see(name: str, given: Tensor) -> None:
            if given is last[0]:
                shared[name] = last[1]
                return
            last[:] = [given, name]
            seen = given[batch.real]
            grams.setdefault(name, torch.zeros(seen.shape[1], seen.shape[1])).addmm_(seen.T, seen)

        return see

    for walk, hidden in zip(walks, states, strict=True):
        with inputs_of(linears, collecting(walk.batch)):
            walk.step(layer, hidden)
    return grams | {name: grams[other] for name, other in shared.items()}


def main(arguments: list[str]) -> int:
    """Do `SOURCE OUT ROWS`; JSON lines on stdout tell of each layer done, or of the failure."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**facts: Any) -> None:
        print(json.dumps(facts), file=report, flush=True)

    source, out, rows = arguments
    try:
        texts = json.loads(Path(rows).read_bytes())
        fit(Path(source), Path(out), texts, lambda done, total: tell(done=done, total=total))
    except VivaceError as error:
        tell(error=error.message, hint=error.hint)
        return ModelError.exit_code
    report.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
