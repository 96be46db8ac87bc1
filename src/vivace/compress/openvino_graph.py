"""From a torch model to a stateful OpenVINO graph; run as a program it does one export in its own process."""

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vivace.compress.quantize.weights import Note, Plan, compress_int4, int4_share, read_plan
from vivace.compress.support import check_traced
from vivace.errors import ModelError, VivaceError

INPUTS = ("input_ids", "attention_mask", "position_ids")


class CacheShape(NamedTuple):
    """The part of a cache's shape that no request changes: [batch, heads, length, width], once per layer."""

    layers: int
    heads: int
    width: int


def cache_shape(config: Any) -> CacheShape:
    """Return the shape of the keys, and of the values, that a model with this configuration caches."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return CacheShape(config.num_hidden_layers, heads, width)


def stateless(model: Any) -> Any:
    """Return `model` as a pure function: (tokens, mask, positions, *past) -> (logits, *present)."""
    import torch
    from torch import nn
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class StatelessDecoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            cache = DynamicCache()
            layers = []
            for keys, values in zip(past[0::2], past[1::2], strict=True):
                # Filled by hand: `update` would first join the keys to an empty constant.
                layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
                layer.keys, layer.values = keys, values
                layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
                layers.append(layer)
            cache.layers.extend(layers)
            # [batch, 1, new, total]: transformers passes a mask of four dimensions through as it is, so none of its
            # code that looks at the mask's values, which a trace would freeze, is run.
            new, total = input_ids.shape[1], attention_mask.shape[1]
            column = torch.arange(total)
            row = torch.arange(new) + total - new
            allowed = (column[None, :] <= row[:, None])[None, None] & attention_mask[:, None, None, :].bool()
            mask = torch.where(allowed, 0.0, torch.finfo(torch.float16).min)
            output = self.model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            present = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
            return (output.logits, *present)

    return StatelessDecoder().eval()


def convert(model: Any) -> Any:
    """Return an OpenVINO graph with named cache inputs and outputs."""
    import openvino as ov
    import torch
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    shape = cache_shape(model.config)
    # Sizes of the example: all different, so that no two dimensions are taken for the same.
    batch, old, new = 2, 3, 5
    past = [torch.zeros(batch, shape.heads, old, shape.width) for _ in range(2 * shape.layers)]
    positions = torch.arange(old, old + new).expand(batch, new).contiguous()
    mask = torch.ones(batch, old + new, dtype=torch.int64)
    example = (torch.ones(batch, new, dtype=torch.int64), mask, positions, *past)
    shapes = [
        ov.PartialShape([-1, shape.heads, -1, shape.width] if tensor.dim() == 4 else [-1] * tensor.dim())
        for tensor in example
    ]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Tracing twice more to compare costs 3 s; tests/compress compares logits and tokens instead.
        decoder = TorchScriptPythonDecoder(stateless(model), example_input=example, trace_kwargs={"check_trace": False})
        graph = ov.convert_model(decoder, example_input=example, input=shapes)
    _name_ports(graph, shape, shapes)
    return graph


def _name_ports(graph: Any, shape: CacheShape, shapes: list[Any]) -> None:
    parts = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
    inputs = (*INPUTS, *(f"past_key_values.{part}" for part in parts))
    for port, name, partial in zip(graph.inputs, inputs, shapes, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(partial)
    outputs = ("logits", *(f"present.{part}" for part in parts))
    for port, name in zip(graph.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()


def make_stateful(graph: Any) -> None:
    """Turn the cache inputs and outputs into variables that start empty and are reordered by `beam_idx`."""
    from openvino.passes import MakeStateful, Manager

    _reorder_caches(graph)
    manager = Manager()
    manager.register_pass(
        MakeStateful({name: name.replace("past_key_values", "present") for name in _cache_inputs(graph)})
    )
    manager.run_passes(graph)
    _start_empty(graph)
    graph.validate_nodes_and_infer_types()


def _cache_inputs(graph: Any) -> Iterator[str]:
    return (port.any_name for port in graph.inputs if port.any_name.startswith("past_key_values."))


def _reorder_caches(graph: Any) -> None:
    # Added here and not in torch: there, every later shape would come to depend on `beam_idx`.
    import numpy as np
    from openvino import opset13 as op

    beam = op.parameter([-1], np.int32, name="beam_idx")
    beam.output(0).get_tensor().set_names({"beam_idx"})
    for name in list(_cache_inputs(graph)):
        port = graph.input(name)
        readers = port.get_target_inputs()
        reordered = op.gather(port, beam, op.constant(0))
        for reader in readers:
            reader.replace_source_output(reordered.output(0))
    graph.add_parameters([beam])
    graph.validate_nodes_and_infer_types()


def _start_empty(graph: Any) -> None:
    # A variable without initial value would start with a batch of one.
    import numpy as np
    from openvino import opset13 as op

    sizes = op.shape_of(graph.input("input_ids"), output_type="i64")
    batch = op.gather(sizes, op.constant([0]), op.constant(0))
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, width = node.get_output_partial_shape(0)
            rest = op.constant(np.array([heads.get_length(), 0, width.get_length()], dtype=np.int64))
            zero = op.constant(0.0, dtype=node.get_output_element_type(0))
            node.set_arguments([op.broadcast(zero, op.concat([batch, rest], axis=0))])


def compress(graph: Any, weights: str, plan: Plan, note: Note) -> Any:
    """Return the graph with its weights in int8, int4 as planned, or fp16."""
    if weights == "fp16":
        _halve_weights(graph)
        return graph
    import nncf

    if weights == "int8":
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    return compress_int4(graph, plan, note)


def _halve_weights(graph: Any) -> None:
    # OpenVINO's own `compress_to_fp16` halves every constant, also the frequencies of the rotary embedding, whose error
    # grows with the position: to five degrees after a thousand tokens.
    import numpy as np
    from openvino import opset13 as op

    for node in graph.get_ops():
        readers = node.output(0).get_target_inputs() if node.get_type_name() == "Constant" else ()
        if {reader.get_node().get_type_name() for reader in readers} & {
            "MatMul",
            "Gather",
        } and node.get_element_type().to_string() == "f32":
            restored = op.convert(op.constant(node.data.astype(np.float16)), "f32")
            for reader in readers:
                reader.replace_source_output(restored.output(0))
    graph.validate_nodes_and_infer_types()


def export(source: Path, out: Path, weights: str, plan: Plan, note: Note) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write the graph of the model in `source` into `out`, yielding each phase when it is done, with its facts."""
    import openvino as ov

    from vivace.models import load_causal_lm

    model = load_causal_lm(source)
    check_traced(source, model.config.to_dict())
    yield "load", {}
    graph = convert(model)
    make_stateful(graph)
    graph.set_rt_info("8.0", ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])  # for devices that compute in fp16
    yield "convert", {}
    graph = compress(graph, weights, plan, note)
    yield "compress", {"int4_share": int4_share(graph)}
    ov.save_model(graph, out / "openvino_model.xml", compress_to_fp16=False)
    yield "save", {}


def main(arguments: list[str]) -> int:
    """Export `SOURCE OUT WEIGHTS PLAN`; JSON lines on stdout tell of steps, of each phase done, or of the failure."""
    # The parent reads stdout; the libraries' own bars and notes go where complaints go.
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**facts: Any) -> None:
        print(json.dumps(facts), file=report, flush=True)

    def note(step: str, share: float) -> None:
        tell(step=step, share=share)

    source, out, weights = Path(arguments[0]), Path(arguments[1]), arguments[2]
    started = time.monotonic()
    try:
        for phase, facts in export(source, out, weights, read_plan(Path(arguments[3]).read_bytes()), note):
            peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            tell(done=phase, seconds=time.monotonic() - started, peak_bytes=peak_bytes, **facts)
            started = time.monotonic()
    except VivaceError as error:
        tell(error=error.message, hint=error.hint)
        return ModelError.exit_code
    report.close()
    # Libraries' threads and destructors take a second to end, and there is nothing left to lose.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
