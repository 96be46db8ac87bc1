"""From a torch model to compressed-tensors weights; run as a program it does one export in its own process."""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vivace.compress.compressed_tensors.schemes import SCHEMES, Scheme
from vivace.compress.support import check_traced
from vivace.errors import ModelError, VivaceError

# The output head is left alone: its errors are the answer's, and it is one with the embedding in small models.
_IGNORED = ["lm_head"]
# Half of the activations' range goes to the weights, as the paper does: https://arxiv.org/abs/2211.10438.
_SMOOTHING = 0.5


def scheme_of(scheme: Scheme, group_size: int | None) -> dict[str, Any]:
    """Return llm-compressor's configuration of a scheme: symmetric, as vLLM's fastest kernels want it."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    shape = {"strategy": "channel"} if group_size is None else {"strategy": "group", "group_size": group_size}
    weights = QuantizationArgs(
        num_bits=scheme.weight_bits, type="int", symmetric=True, observer="memoryless_minmax", **shape
    )
    activations = None
    if scheme.activation_bits < 16:
        activations = QuantizationArgs(
            num_bits=scheme.activation_bits, type="int", symmetric=True, strategy="token", dynamic=True, observer=None
        )
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights, input_activations=activations)}


def recipe_of(scheme: Scheme, group_size: int | None, calibrated: bool) -> list[Any]:
    """Return the modifiers of llm-compressor that carry a scheme out."""
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant.base import SmoothQuantModifier

    what = {"config_groups": scheme_of(scheme, group_size), "ignore": _IGNORED}
    if not calibrated:
        return [QuantizationModifier(**what)]
    if scheme.activation_bits < 16:
        return [SmoothQuantModifier(smoothing_strength=_SMOOTHING), QuantizationModifier(**what)]
    return [GPTQModifier(**what)]


def quantize(source: Path, model: Any, recipe: list[Any], rows: Iterable[Iterable[int]] | None) -> Any:
    """Carry out `recipe` on `model` and return what compresses it; `rows` are the token ids of texts to look at."""
    from compressed_tensors.compressors import ModelCompressor
    from llmcompressor.entrypoints.oneshot import Oneshot
    from transformers import AutoTokenizer

    # Given the tokenizer, it does not search for one; nothing is tokenized any more.
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    run = Oneshot(
        model=model,
        processor=tokenizer,
        recipe=recipe,
        dataset=None if rows is None else _loader(rows),
        pipeline="datafree" if rows is None else "sequential",
    )
    run()
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    return compressor


def _loader(rows: Iterable[Iterable[int]]) -> Any:
    import torch
    from torch.utils.data import DataLoader

    texts = [torch.tensor([list(row)]) for row in rows]
    # Each text alone: padding would be looked at too.
    return DataLoader(
        [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in texts],  # type: ignore[arg-type]
        batch_size=None,
    )


def save(model: Any, compressor: Any, dtype: str, scheme: Scheme, out: Path) -> None:
    """Write the compressed weights, and the configuration that tells how to read them, into `out`.

    What is left in floating point takes `dtype`, but for the scales of int8 channels, which vLLM reads in float32.
    """
    import torch

    floats = getattr(torch, dtype)

    def stored(name: str, value: Any) -> Any:
        exact = scheme.weight_bits == 8 and name.endswith(".weight_scale")
        return value.to(torch.float32 if exact else floats) if value.is_floating_point() else value

    state = {name: stored(name, value.detach()) for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    model.config.dtype = floats
    # The class's own: on the object, llm-compressor has put one that copies configuration and code from elsewhere.
    type(model).save_pretrained(model, out, state_dict=state)
    compressor.update_config(str(out))
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)


def recipe_text(recipe: dict[str, Any]) -> str:
    """Return a recipe that llm-compressor reads, in the part of YAML that is JSON.

    Its own way of writing names Python classes, which a careless reader would call.
    """
    return json.dumps(recipe, indent=2, default=lambda value: value.value) + "\n"


def watch(model: Any, tell: Callable[[float], None]) -> None:
    """Call `tell` with the layer's share of all when a layer is computed for the first time."""
    layers = model.model.layers
    seen: set[int] = set()

    def on(number: int) -> Callable[..., None]:
        def first(*_: Any) -> None:
            if number not in seen:
                seen.add(number)
                tell(1 / len(layers))

        return first

    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(on(number))


def export(job: dict[str, Any], tell: Callable[[str, float], None]) -> None:
    """Do the export that `job` describes, telling of each step and of its share of the whole when it is done."""
    import torch
    from llmcompressor.core.session_functions import active_session

    from vivace.models import load_causal_lm

    source, out, scheme = Path(job["source"]), Path(job["out"]), SCHEMES[job["kind"]]
    torch.manual_seed(0)
    model = load_causal_lm(source)
    check_traced(source, model.config.to_dict())
    tell("loaded", 0.1)
    recipe = recipe_of(scheme, job["group_size"], job["rows"] is not None)
    if job["rows"] is not None:
        watch(model, lambda share: tell("quantizing", 0.8 * share))
    compressor = quantize(source, model, recipe, job["rows"])
    save(model, compressor, job["dtype"], scheme, out)
    (out / "recipe.yaml").write_text(recipe_text(active_session().lifecycle.recipe.to_dict()), encoding="utf-8")
    tell("saved", 0.1)


def main(arguments: list[str]) -> int:
    """Do the export of the file `JOB` in its folder; a JSON line on stdout tells of each step, or of the failure."""
    # The parent reads stdout; the libraries' own bars and notes go where complaints go.
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**facts: Any) -> None:
        print(json.dumps(facts), file=report, flush=True)

    def done(what: str, share: float) -> None:
        tell(done=what, share=share, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    job = Path(arguments[0])
    os.chdir(job.parent)
    try:
        export(json.loads(job.read_bytes()), done)
    except VivaceError as error:
        tell(error=error.message, hint=error.hint)
        return ModelError.exit_code
    report.close()
    # Libraries' threads and destructors take a second to end, and there is nothing left to lose.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
