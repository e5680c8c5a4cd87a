#!/usr/bin/env python3
"""Makes model_int8.onnx from the published weights of sentence-transformers/all-MiniLM-L6-v2.

    export.py WEIGHTS OUTPUT [--check MODEL]

WEIGHTS is the folder with the published `model.safetensors`; OUTPUT is the ONNX file to write. With --check, the result
is compared with MODEL: the same operators with the same attributes and inputs, and the same numbers to the last bit;
only what the values are called may differ. Needs the Python packages numpy, onnx, onnxruntime, safetensors and sympy.

The graph is the BERT encoder, written down operator by operator, so that no export tool has a say in it:
input_ids, attention_mask, token_type_ids (i64, batch x seq) -> last_hidden_state (f32, batch x seq x 384).
"""

import math
import pathlib
import sys
import tempfile

import numpy
from onnx import TensorProto, checker, helper, load, numpy_helper, save
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

WIDTH = 384
LAYERS = 6
HEADS = 12
HEAD_WIDTH = WIDTH // HEADS
# As a logit: far below any real one, and finite.
MASKED = -10_000


class Graph:
    """Nodes and constants in the order in which they are made; a value is known by its name."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.constants = []

    def constant(self, name, value, kind=numpy.float32):
        array = numpy.ascontiguousarray(numpy.asarray(value).astype(kind))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name, key, transposed=False):
        array = self.weights[key].astype(numpy.float32)
        return self.constant(name, array.T if transposed else array)

    def node(self, operator, name, *inputs, **attributes):
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def norm(self, name, key, value):
        gain, shift = self.weight(f"{name}_g", f"{key}.weight"), self.weight(f"{name}_b", f"{key}.bias")
        return self.node("LayerNormalization", name, value, gain, shift, axis=-1, epsilon=1e-12)

    def dense(self, name, key, value):
        product = self.node("MatMul", f"{name}_mm", value, self.weight(f"{name}_w", f"{key}.weight", transposed=True))
        return self.node("Add", name, self.weight(f"{name}_bias", f"{key}.bias"), product)


def embeddings(graph):
    """Words, positions and types; the bias that masks padding is made on the way."""
    graph.node("Shape", "shape", "input_ids")
    graph.node("Gather", "length", "shape", "one")
    graph.node("Gather", "word", graph.weight("words", "embeddings.word_embeddings.weight"), "input_ids")
    positions = graph.weight("positions", "embeddings.position_embeddings.weight")
    graph.node("Slice", "position", positions, "zero", "length", "zero")
    graph.node("Gather", "type", graph.weight("types", "embeddings.token_type_embeddings.weight"), "token_type_ids")
    graph.node("Add", "word_type", "word", "type")
    graph.node("Add", "summed", "word_type", "position")
    embedded = graph.norm("embedded", "embeddings.LayerNorm", "summed")
    graph.node("Cast", "mask_f", "attention_mask", to=TensorProto.FLOAT)
    graph.node("Unsqueeze", "mask_4d", "mask_f", "mask_axes")
    graph.node("Sub", "inverse", "one_f", "mask_4d")
    graph.node("Mul", "bias_mask", "inverse", "masked")
    return embedded


def attention(graph, prefix, key, value):
    """Scaled dot product of all heads at once: batch x heads x seq x head width."""
    for part in ("query", "key", "value"):
        name = graph.dense(f"{prefix}{part}", f"{key}.attention.self.{part}", value)
        graph.node("Reshape", f"{name}_r", name, "heads")
        order = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
        graph.node("Transpose", f"{name}_t", f"{name}_r", perm=order)
    graph.node("MatMul", f"{prefix}qk", f"{prefix}query_t", f"{prefix}key_t")
    graph.node("Div", f"{prefix}scaled", f"{prefix}qk", "scale")
    graph.node("Add", f"{prefix}logits", f"{prefix}scaled", "bias_mask")
    graph.node("Softmax", f"{prefix}attention", f"{prefix}logits", axis=-1)
    graph.node("MatMul", f"{prefix}context", f"{prefix}attention", f"{prefix}value_t")
    graph.node("Transpose", f"{prefix}context_t", f"{prefix}context", perm=[0, 2, 1, 3])
    graph.node("Reshape", f"{prefix}context_m", f"{prefix}context_t", "merged")
    projected = graph.dense(f"{prefix}projected", f"{key}.attention.output.dense", f"{prefix}context_m")
    graph.node("Add", f"{prefix}attended", projected, value)
    return graph.norm(f"{prefix}attended_n", f"{key}.attention.output.LayerNorm", f"{prefix}attended")


def feed_forward(graph, prefix, key, value, output):
    """Two dense layers with the exact GELU between them: x (1 + erf(x / sqrt 2)) / 2."""
    inner = graph.dense(f"{prefix}inner", f"{key}.intermediate.dense", value)
    graph.node("Div", f"{prefix}g1", inner, "sqrt2")
    graph.node("Erf", f"{prefix}g2", f"{prefix}g1")
    graph.node("Add", f"{prefix}g3", f"{prefix}g2", "one_f")
    graph.node("Mul", f"{prefix}g4", inner, f"{prefix}g3")
    graph.node("Mul", f"{prefix}gelu", f"{prefix}g4", "half")
    outer = graph.dense(f"{prefix}outer", f"{key}.output.dense", f"{prefix}gelu")
    graph.node("Add", f"{prefix}fed", outer, value)
    return graph.norm(output, f"{key}.output.LayerNorm", f"{prefix}fed")


def build(weights):
    graph = Graph(weights)
    for name, value in [
        ("zero", [0]),
        ("one", [1]),
        ("mask_axes", [1, 2]),
        ("heads", [0, 0, HEADS, HEAD_WIDTH]),
        ("merged", [0, 0, WIDTH]),
    ]:
        graph.constant(name, value, numpy.int64)
    scalars = {"one_f": 1, "masked": MASKED, "scale": math.sqrt(HEAD_WIDTH), "sqrt2": math.sqrt(2), "half": 0.5}
    for name, value in scalars.items():
        graph.constant(name, value)
    value = embeddings(graph)
    for layer in range(LAYERS):
        prefix, key = f"l{layer}_", f"encoder.layer.{layer}"
        attended = attention(graph, prefix, key, value)
        output = f"{prefix}out" if layer + 1 < LAYERS else "last_hidden_state"
        value = feed_forward(graph, prefix, key, attended, output)
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in names]
    output = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", "seq", WIDTH])
    made = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, [output], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model


def same(ours, theirs):
    """Whether two models are the same up to the names of their values."""
    constants = [{c.name: c for c in model.graph.initializer} for model in (ours, theirs)]
    names = {value.name: value.name for value in [*ours.graph.input, *ours.graph.output]}

    def same_value(our, their):
        if our in constants[0] and their in constants[1]:
            arrays = [numpy_helper.to_array(known[name]) for known, name in zip(constants, (our, their))]
            return arrays[0].dtype == arrays[1].dtype and numpy.array_equal(*arrays)
        return names.setdefault(our, their) == their

    def same_node(our, their):
        attributes = [sorted(a.SerializeToString() for a in node.attribute) for node in (our, their)]
        values = list(zip([*our.input, *our.output], [*their.input, *their.output]))
        sizes = [(node.op_type, len(node.input), len(node.output)) for node in (our, their)]
        return sizes[0] == sizes[1] and attributes[0] == attributes[1] and all(same_value(*pair) for pair in values)

    nodes = ours.graph.node, theirs.graph.node
    return len(nodes[0]) == len(nodes[1]) and all(map(same_node, *nodes))


def main():
    arguments = sys.argv[1:]
    if len(arguments) not in (2, 4) or arguments[2:3] not in ([], ["--check"]):
        sys.exit(__doc__)
    source, target = pathlib.Path(arguments[0]), pathlib.Path(arguments[1])
    model = build(load_file(source / "model.safetensors"))
    with tempfile.TemporaryDirectory() as folder:
        full = pathlib.Path(folder) / "model.onnx"
        save(model, full)
        quantize_dynamic(full, target, weight_type=QuantType.QInt8, per_channel=True)
    if len(arguments) == 4:
        if not same(load(target), load(arguments[3])):
            sys.exit(f"{arguments[3]} is another model")
        print(f"{arguments[3]} is the same model")


if __name__ == "__main__":
    main()
