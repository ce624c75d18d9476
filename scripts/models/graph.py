"""The BERT encoder as an ONNX graph, written node by node: float32 for calibration, int8 for the product.

An exported and then "optimised" graph would hold the same fused operators, but which of them appear depends on how
the exporter of the day names things. Written directly, the graph is the same every time, its residual additions can
avoid ONNX Runtime's slow fused SkipLayerNormalization, and its linear layers can be quantised with constant steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from quantise import Linear8, rows_to_int8

Weights = Mapping[str, NDArray[np.float32]]
MICROSOFT = "com.microsoft"     # ONNX Runtime's own operators
PARTS = ("qkv", "o", "up", "down")


class Graph:
    """Collects nodes and constants under unique names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def node(self, op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output


Linear = Callable[[Graph, str, str], str]      # (graph, input, layer name) -> output


def linear_weights(weights: Weights, layer: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (k, n) and bias (n,) of a layer named "3.up"; query, key and value are one layer, "3.qkv"."""
    number, part = layer.split(".")
    names = {"qkv": [f"attention.self.{name}" for name in ("query", "key", "value")],
             "o": ["attention.output.dense"], "up": ["intermediate.dense"], "down": ["output.dense"]}[part]
    prefix = f"encoder.layer.{number}."
    return (np.concatenate([weights[f"{prefix}{name}.weight"].T for name in names], axis=1),
            np.concatenate([weights[f"{prefix}{name}.bias"] for name in names]))


def float_linear(weights: Weights) -> Linear:
    """Linear layers in float32."""

    def linear(graph: Graph, x: str, layer: str) -> str:
        weight, bias = linear_weights(weights, layer)
        product = graph.node("MatMul", [x, graph.constant(f"{layer}.weight", weight)], f"{layer}.product")
        return graph.node("Add", [product, graph.constant(f"{layer}.bias", bias)], f"{layer}.y")

    return linear


def int8_linear(layers: Mapping[str, Linear8]) -> Linear:
    """Linear layers in int8. The steps of "o" must have been folded into the values of "qkv" before."""

    def linear(graph: Graph, x: str, layer: str) -> str:
        q = layers[layer]
        one = graph.constant("one", np.array(1, np.float32))
        zero_point = graph.constant(f"zero_{q.zero_point}", np.array(q.zero_point, np.uint8))
        if not (q.inverse_step == 1).all():
            x = graph.node("Mul", [x, graph.constant(f"{layer}.inverse_step", q.inverse_step)], f"{layer}.steps")
        levels = graph.node("QuantizeLinear", [x, one, zero_point], f"{layer}.levels")
        inputs = [levels, graph.constant(f"{layer}.weight", q.weight), one,
                  graph.constant(f"{layer}.scale", q.scale), zero_point, "",
                  graph.constant(f"{layer}.bias", q.bias)]
        return graph.node("MatMulIntegerToFloat", inputs, f"{layer}.y", MICROSOFT)

    return linear


def encoder(weights: Weights, linear: Linear, *, heads: int, int8_words: bool, epsilon: float = 1e-12,
            layers: int = 6, expose: Sequence[str] = ()) -> onnx.ModelProto:
    """The whole model: `input_ids`, `attention_mask` (b, s) -> `last_hidden_state`, `sentence_embedding`.

    `expose` names inner tensors to return as well ("0.up.x" is what layer 0's "up" multiplies).
    """
    graph = Graph()
    hidden = len(weights["embeddings.LayerNorm.weight"])

    def norm(x: str, name: str, output: str) -> str:
        scale = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
        shift = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
        return graph.node("LayerNormalization", [x, scale, shift], output, axis=-1, epsilon=epsilon)

    def apply(x: str, layer: str) -> str:
        return linear(graph, graph.node("Identity", [x], f"{layer}.x") if f"{layer}.x" in expose else x, layer)

    x = norm(_embedded(graph, weights, int8_words), "embeddings.LayerNorm", "embedded")
    _mask(graph)
    for number in range(layers):
        prefix = f"encoder.layer.{number}."
        context = _attention(graph, apply(x, f"{number}.qkv"), number, heads)
        # `Sum` and not `Add`: ONNX Runtime fuses the latter with the norm into a kernel that is slower than both.
        x = graph.node("Sum", [apply(context, f"{number}.o"), x], f"{number}.attended")
        x = norm(x, f"{prefix}attention.output.LayerNorm", f"{number}.middle")
        wide = graph.node("Gelu", [apply(x, f"{number}.up")], f"{number}.gelu", MICROSOFT)
        x = graph.node("Sum", [apply(wide, f"{number}.down"), x], f"{number}.fed")
        x = norm(x, f"{prefix}output.LayerNorm", "last_hidden_state" if number == layers - 1 else f"{number}.out")
    _pooled(graph, x)
    return _model(graph, hidden, expose)


def _embedded(graph: Graph, weights: Weights, int8_words: bool) -> str:
    """Word plus position plus token type 0 (a sentence is never a pair here), before the norm."""
    words = weights["embeddings.word_embeddings.weight"]
    if int8_words:
        table, scale = rows_to_int8(words)
        rows = graph.node("Gather", [graph.constant("words", table), "input_ids"], "words.int8")
        rows = graph.node("Cast", [rows], "words.float", to=TensorProto.FLOAT)
        steps = graph.node("Gather", [graph.constant("words.scale", scale[:, None]), "input_ids"], "words.step")
        rows = graph.node("Mul", [rows, steps], "words.rows")
    else:
        rows = graph.node("Gather", [graph.constant("words", words), "input_ids"], "words.rows")
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.node("Slice", [graph.node("Shape", ["input_ids"], "shape"), graph.ints(1), graph.ints(2)], "length")
    places = graph.node("Slice", [graph.constant("places", places), graph.ints(0), length, graph.ints(0)], "places.rows")
    return graph.node("Add", [rows, places], "embedded.sum")


def _mask(graph: Graph) -> None:
    """`mask`, and `full`: whether nothing is masked, which allows the faster attention kernel."""
    mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    least = graph.node("ReduceMin", [mask], "mask.least", keepdims=0)
    graph.node("Cast", [least], "full", to=TensorProto.BOOL)


def _attention(graph: Graph, qkv: str, number: int, heads: int) -> str:
    """Attention over packed queries, keys and values (b, s, 3 hidden) -> (b, s, hidden).

    ONNX Runtime uses its blocked kernel only where no mask is given: a tenth faster at 235 tokens.
    """
    parts = [f"{number}.{name}" for name in ("query", "key", "value")]
    graph.nodes.append(helper.make_node("Split", [qkv], parts, name=f"{number}.split", axis=-1, num_outputs=3))
    branches = {}
    for branch, extra in (("then_branch", []), ("else_branch", ["", "mask"])):
        output = f"{number}.{branch}"
        node = helper.make_node("MultiHeadAttention", [*parts, *extra], [output], name=output, domain=MICROSOFT,
                                num_heads=heads)
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph([node], output, [], [value])
    return graph.node("If", ["full"], f"{number}.context", **branches)


def _pooled(graph: Graph, hidden: str) -> None:
    """The mean over the tokens that count, scaled to length 1; the mean's divisor drops out."""
    mask = graph.node("Cast", ["attention_mask"], "mask.float", to=TensorProto.FLOAT)
    mask = graph.node("Unsqueeze", [mask, graph.ints(1)], "mask.row")
    total = graph.node("Squeeze", [graph.node("MatMul", [mask, hidden], "total.row"), graph.ints(1)], "total")
    length = graph.node("ReduceL2", [total, graph.ints(-1)], "total.length", keepdims=1)
    length = graph.node("Max", [length, graph.constant("tiny", np.array(1e-12, np.float32))], "total.divisor")
    graph.node("Div", [total, length], "sentence_embedding")


def _model(graph: Graph, hidden: int, expose: Sequence[str]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
              for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", hidden]),
               helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", hidden]),
               *(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in expose)]
    made = helper.make_graph(graph.nodes, "encoder", inputs, outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9, producer_name="madang")
