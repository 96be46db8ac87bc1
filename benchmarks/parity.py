"""Do five template families, in six forms each, read the token ids that the trainer read, 1,000 conversations a cell?

    python -m benchmarks.parity [--conversations 1000] [--folder FOLDER] [--scored 4] [--json FILE]

Each family is a tiny Llama with that family's special tokens, way of cutting text and chat format, written from what
its publisher documents (tests/parity/families.py). Each is given an adapter, merged, and exported with the functions
that `vivace compress` uses. Conversations are made up from a seed: system prompts, tools, calls and results, empty
turns, Unicode, texts that look like special tokens, two questions in a row, long ones that have to be cut. A cell tells
how many of them reach the engine's door as other ids than those of `vivace.train`, and whether transformers (merged
folder) and llama.cpp (GGUF) read the same. With `--scored` also how far log-probabilities move, with bootstrap
intervals: what the bounds in vivace/parity/bounds.py rest on. Forms are kept in `--folder` and made once.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.parity.exports import FORMS, make_form
from tests.parity.families import FAMILIES, build_family
from tests.parity.material import hop_of, proof_of

from vivace.config.parity import ParitySettings
from vivace.parity import Proof
from vivace.parity.scoring import Heard


def main() -> None:
    """Fill the matrix, print it as a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=1000, help="per cell")
    parser.add_argument("--folder", type=Path, default=None, help="where forms are kept")
    parser.add_argument("--scored", type=int, default=0, help="answers whose log-probabilities are compared")
    parser.add_argument("--json", type=Path, default=None, help="write the cells here")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--forms", nargs="*", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        cells = [cell for name in chosen.families for cell in _family(name, chosen.folder or Path(place), chosen)]
    for cell in cells:
        print(_line(cell))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(cells, indent=1) + "\n")
    wrong = sum(cell["differing"] > 0 for cell in cells)
    print(f"{len(cells)} cells, {sum(cell['conversations'] for cell in cells):,} renderings, {wrong} cells that differ")
    raise SystemExit(1 if wrong else 0)


def _family(name: str, place: Path, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    base = place / name / "base"
    if not base.is_dir():
        build_family(name, base)
    settings = ParitySettings(
        conversations=0, awkward=chosen.conversations, scored=max(1, chosen.scored), max_tokens=8, seed=chosen.seed
    )
    proof = proof_of(base, "", settings)
    cells: list[dict[str, Any]] = []
    before: list[Heard] = []
    for form in chosen.forms:
        started = time.monotonic()
        hop = hop_of(make_form(form, base, place / name), form)
        made = time.monotonic()
        findings = asyncio.run(proof.check_tokens(hop))
        cell = {
            "family": name,
            "form": form,
            "conversations": sum(each.of for each in findings if each.check in ("token ids", "token ids, cut to fit")),
            "refused": sum(bool(each.rendering.refused) for each in proof.expected),
            "differing": sum(each.differing for each in findings),
            "checks": len(findings),
            "broken": [f"{each.check}: {each.cause or each.found}" for each in findings if not each.met],
            "read_by_others": sum(each.of for each in findings if "by" in each.check and "token ids" in each.check),
            "made_s": round(made - started, 1),
            "checked_s": round(time.monotonic() - made, 1),
        }
        if chosen.scored:
            heard = asyncio.run(_heard(proof, hop))
            before = before or heard
            figure = proof.check_scores(hop, before, heard)[0].figure
            cell["weights"] = f"{hop.model.format}-{hop.model.weights}"
            if figure is not None:
                cell["logprob"] = [figure.value, figure.interval.low, figure.interval.high]
        cells.append(cell)
        print(_line(cell), flush=True)
    return cells


async def _heard(proof: Proof, hop: Any) -> list[Heard]:
    from vivace.chain import stack
    from vivace.engines import open_engine
    from vivace.parity import scoring
    from vivace.parity.proof import FLOAT32

    options = FLOAT32 if hop.engine == "transformers" else None
    async with open_engine(hop.engine, hop.model, threads=1, prefix_cache=False, options=options) as engine:
        return await scoring.hear(engine, stack(engine, hop.chain), proof.asked, proof.settings.max_tokens)


def _line(cell: dict[str, Any]) -> str:
    told = f"{cell['family']:8} {cell['form']:8} {cell['conversations']:5} conversations, "
    told += f"{cell['refused']} refused alike, {cell['differing']} differ"
    if cell["read_by_others"]:
        told += f", {cell['read_by_others']} read alike by another program" if not cell["broken"] else ""
    if "logprob" in cell:
        value, low, high = cell["logprob"]
        told += f", {cell['weights']} {value:.2g} nats a token [{low:.2g}, {high:.2g}]"
    return told + (f" — {'; '.join(cell['broken'])}" if cell["broken"] else "")


if __name__ == "__main__":
    main()
