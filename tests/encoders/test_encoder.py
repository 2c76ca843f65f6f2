"""Encoders from ONNX files: what is accepted, refused and computed."""

import hashlib
import json
import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from support import all_end

from udfs.encoders.encoder import Encoder, describe
from udfs.encoders.sessions import PRECISIONS, providers
from udfs.errors import EncoderError

EDGE = 8


def save(path, text, **weights):
    """Write a graph in ONNX's text form, with `weights` as initializers."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> ' + text)
    for name, value in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path.write_bytes(model.SerializeToString())
    return path


def means(path, shape=f"n,3,{EDGE},{EDGE}", kind="float"):
    """A graph whose three features are the means of the three channels."""
    last = "Transpose<perm = [0, 3, 1, 2]>(image)" if shape.endswith(",3") else "Identity(image)"
    steps = f"planes = {last} numbers = Cast<to = 1>(planes) pooled = GlobalAveragePool(numbers)"
    text = f"g ({kind}[{shape}] image) => (float[n,3] features) {{ {steps} features = Flatten(pooled) }}"
    return save(path, text)


def images(count=5, edge=EDGE):
    return np.random.default_rng(count).integers(0, 256, (count, edge, edge, 3), np.uint8)


def embed(path, pixels, preprocessing=None, **options):
    spec = describe("tiny", path, preprocessing=preprocessing or {}, precision="fp32", source="test", **options)
    return Encoder(spec, path).embed(pixels)


@pytest.mark.parametrize("shape", ["n,3,8,8", "n,8,8,3", "n,3,h,w", "2,3,8,8", "n,edge,edge,3", "?,3,?,?"])
@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_any_layout_and_batch_gives_every_image_its_own_features(shape, kind, tmp_path):
    pixels = images(5)
    found = embed(means(tmp_path / "m.onnx", shape, kind), pixels, input_px=EDGE)
    np.testing.assert_allclose(found, pixels.mean(axis=(1, 2)), rtol=1e-5)


def test_bytes_are_scaled_then_centred_then_divided(tmp_path):
    pixels, mean, std = images(3), [0.5, 0.25, 0.1], [0.5, 2, 4]
    found = embed(means(tmp_path / "m.onnx"), pixels, {"scale": 1 / 255, "mean": mean, "std": std})
    np.testing.assert_allclose(found, (pixels.mean(axis=(1, 2)) / 255 - mean) / std, rtol=1e-4)


def test_the_spec_describes_the_input_and_names_the_file(tmp_path):
    path = means(tmp_path / "m.onnx")
    spec = describe("tiny", path, preprocessing={"mean": 127, "std": 128}, precision="fp32", source="here")
    assert json.loads(spec.preprocessing) == {
        "dtype": "float32",
        "input_px": EDGE,
        "layout": "nchw",
        "mean": [127.0] * 3,
        "scale": 1.0,
        "std": [128.0] * 3,
    }
    assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (spec.name, spec.input_px, spec.dims, spec.precision, spec.source) == ("tiny", EDGE, 3, "fp32", "here")
    identity = hashlib.sha256(f"{spec.sha256}\n{spec.preprocessing}\nfp32".encode()).hexdigest()
    assert spec.encoder_id == f"tiny-{identity[:8]}"


def test_whatever_changes_the_features_changes_the_id(tmp_path):
    path, open_path = means(tmp_path / "m.onnx"), means(tmp_path / "open.onnx", "n,3,h,w")
    same = {"precision": "fp32", "source": "test"}
    ids = {
        describe("tiny", path, preprocessing={}, **same).encoder_id,
        describe("tiny", path, preprocessing={"mean": 1}, **same).encoder_id,
        describe("tiny", open_path, preprocessing={}, input_px=8, **same).encoder_id,
        describe("tiny", open_path, preprocessing={}, input_px=16, **same).encoder_id,
    }
    assert len(ids) == 4
    assert describe("tiny", path, preprocessing={"scale": 1}, **same).encoder_id in ids


@pytest.mark.parametrize(("layout", "shape"), [("[0, 1, 2, 3]", "n,5,4,4"), ("[0, 2, 3, 1]", "n,4,4,5")])
def test_feature_maps_are_averaged_over_their_positions(layout, shape, tmp_path):
    kernel = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    steps = f"maps = Conv<strides = [2, 2]>(image, kernel) features = Transpose<perm = {layout}>(maps)"
    text = f"g (float[n,3,8,8] image) => (float[{shape}] features) {{ {steps} }}"
    pixels = images(3)
    found = embed(save(tmp_path / "maps.onnx", text, kernel=kernel), pixels)
    cells = pixels.reshape(3, 4, 2, 4, 2, 3).mean(axis=(1, 3))  # n, y in the cell, x in the cell, channel
    np.testing.assert_allclose(found, np.einsum("nyxc,ocyx->no", cells, kernel), rtol=1e-3, atol=1e-2)


GRAPHS = {
    "two inputs": ("g (float[n,3,8,8] a, float[n,3,8,8] b) => (float[n,3,8,8] c) { c = Add(a, b) }", "a, b"),
    "two outputs": (
        "g (float[n,3,8,8] a) => (float[n,3,8,8] b, float[n,3,8,8] c) { b = Relu(a) c = Abs(a) }",
        "one output is needed, but it has b, c",
    ),
    "one channel": ("g (float[n,1,8,8] a) => (float[n,1,8,8] b) { b = Relu(a) }", r"\(n, 3, h, w\)"),
    "rank 2 input": ("g (float[n,3] a) => (float[n,3] b) { b = Relu(a) }", r"\(n, 3, h, w\)"),
    "text input": ("g (int64[n,3,8,8] a) => (int64[n,3,8,8] b) { b = Abs(a) }", "is INT64"),
    "rank 3 output": (
        "g (float[n,3,8,8] a) => (float[n,3,64] b) { s = Constant<value_ints = [0, 3, 64]>() b = Reshape(a, s) }",
        "rank 3",
    ),
    "rank 3 output left open": (
        "g (float[n,3,8,8] a) => (float[] b) { s = Constant<value_ints = [0, 3, 64]>() b = Reshape(a, s) }",
        "rank 3",
    ),
    "flattened image": ("g (float[n,3,96,96] a) => (float[n,27648] b) { b = Flatten(a) }", "27,648 numbers"),
    "exploding": (
        "g (float[n,3,8,8] a) => (float[n,3,1000000,1000000] b) "
        "{ p = GlobalAveragePool(a) s = Constant<value_ints = [1, 3, 1000000, 1000000]>() b = Expand(p, s) }",
        "1,000,000 numbers",
    ),
    "oblong": ("g (float[n,3,8,16] a) => (float[n,3,8,16] b) { b = Relu(a) }", "8 and 16 px"),
    "no size": ("g (float[n,3,h,w] a) => (float[n,3,h,w] b) { b = Relu(a) }", "no fixed size"),
    "great batch": ("g (float[4096,3,8,8] a) => (float[4096,3,8,8] b) { b = Relu(a) }", "4,096 images at once"),
    "huge": ("g (float[n,3,99999,99999] a) => (float[n,3,h,w] b) { b = Relu(a) }", "99999 px"),
    "one row for all": ("g (float[n,3,8,8] a) => (float[1,m] b) { b = Flatten<axis = 0>(a) }", "numbers|as many"),
    "not finite": (
        "g (float[n,3,8,8] a) => (float[n,192] b) { f = Flatten(a) z = Sub(f, f) b = Div(f, z) }",
        "not finite",
    ),
    "oblong maps": (
        "g (float[n,3,8,8] a) => (float[n,3,4,16] b) { s = Constant<value_ints = [0, 3, 4, 16]>() b = Reshape(a, s) }",
        "no square maps",
    ),
    "unknown operation": ("g (float[n,3,8,8] a) => (float[n,3,8,8] b) { b = Frobnicate(a) }", "cannot run it"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_graph_that_cannot_be_an_encoder_is_refused_with_file_and_reason(case, tmp_path):
    text, reason = GRAPHS[case]
    path = save(tmp_path / "bad.onnx", text)
    with pytest.raises(EncoderError, match=reason) as refused:
        describe("bad", path, preprocessing={}, precision="fp32", source="test")
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"\x08\x08"])
def test_a_file_that_is_no_onnx_is_refused(content, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"model\.bin: not an ONNX file"):
        describe("bad", path, preprocessing={}, precision="fp32", source="test")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EncoderError, match=r"gone\.onnx: No such file"):
        describe("bad", tmp_path / "gone.onnx", preprocessing={}, precision="fp32", source="test")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"mean": [1, 2]}, "mean is"),
        ({"scale": "big"}, "scale is"),
        ({"std": 0}, "std of 0"),
        ({"std": float("nan")}, "std is"),
        ({"gamma": 1}, "unknown preprocessing gamma"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(given, reason, tmp_path):
    with pytest.raises(EncoderError, match=reason):
        describe("bad", means(tmp_path / "m.onnx"), preprocessing=given, precision="fp32", source="test")


def test_a_graph_of_bytes_takes_no_normalisation(tmp_path):
    path = means(tmp_path / "m.onnx", kind="uint8")
    with pytest.raises(EncoderError, match="normalises by itself"):
        describe("bad", path, preprocessing={"mean": 1}, precision="fp32", source="test")


def external(folder, location):
    """A graph of which a weight lies in the file `location`."""
    path = means(folder / "m.onnx")
    model = onnx.load(path)
    bias = onnx.TensorProto(name="bias", data_type=1, dims=[3], data_location=onnx.TensorProto.EXTERNAL)
    bias.external_data.add(key="location", value=location)
    model.graph.initializer.append(bias)
    model.graph.node[-1].output[0] = "flat"
    model.graph.node.append(onnx.helper.make_node("Add", ["flat", "bias"], ["features"]))
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_file_are_read_and_belong_to_its_identity(tmp_path):
    path = external(tmp_path, "weights.bin")
    digests = []
    for bias in ([1, 2, 3], [4, 5, 6]):
        (tmp_path / "weights.bin").write_bytes(np.float32(bias).tobytes())
        spec = describe("tiny", path, preprocessing={}, precision="fp32", source="test")
        digests.append(spec.sha256)
        np.testing.assert_allclose(Encoder(spec, path).embed(images(1)), images(1).mean(axis=(1, 2)) + bias, rtol=1e-5)
    assert len(set(digests)) == 2
    (tmp_path / "weights.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    with pytest.raises(EncoderError, match="SHA-256 differs"):
        Encoder(spec, path)


def test_a_file_that_was_changed_is_refused(tmp_path):
    path = means(tmp_path / "m.onnx")
    spec = describe("tiny", path, preprocessing={}, precision="fp32", source="test")
    means(path, "n,8,8,3")
    with pytest.raises(EncoderError, match=rf"not the file of {spec.encoder_id}"):
        Encoder(spec, path)


def test_pixels_of_another_size_are_refused(tmp_path):
    path = means(tmp_path / "m.onnx")
    encoder = Encoder(describe("tiny", path, preprocessing={}, precision="fp32", source="test"), path)
    with pytest.raises(EncoderError, match=r"takes bytes \(n, 8, 8, 3\), not \(2, 9, 9, 3\)"):
        encoder.embed(images(2, edge=9))
    with pytest.raises(EncoderError, match="takes bytes"):
        encoder.embed(images(2).astype(np.float32))


def test_no_images_give_no_embeddings(tmp_path):
    assert embed(means(tmp_path / "m.onnx"), images(0)).shape == (0, 3)


def test_features_that_are_not_finite_are_an_error_not_a_row(tmp_path):
    text = "g (float[n,3,8,8] a) => (float[n,3] b) { p = GlobalMaxPool(a) l = Log(p) b = Flatten(l) }"
    path = save(tmp_path / "log.onnx", text)
    encoder = Encoder(describe("log", path, preprocessing={}, precision="fp32", source="test"), path)
    with pytest.raises(EncoderError, match=r"log\.onnx: its output is not finite"):
        encoder.embed(np.zeros((1, EDGE, EDGE, 3), np.uint8))


def test_threads_share_an_encoder(tmp_path):
    path = means(tmp_path / "m.onnx")
    encoder = Encoder(describe("tiny", path, preprocessing={}, precision="fp32", source="test"), path)
    found = {}

    def embed_own(count):
        for _ in range(20):
            found[count] = encoder.embed(images(count))

    threads = [threading.Thread(target=embed_own, args=(count,), daemon=True) for count in (3, 50, 97)]
    for thread in threads:
        thread.start()
    all_end(threads)
    for count, embeddings in found.items():
        np.testing.assert_allclose(embeddings, images(count).mean(axis=(1, 2)), rtol=1e-5)
    assert len(found) == 3


def quantised(path):
    """Channel means through 8-bit numbers."""
    step = "scale = Constant<value_float = 1.0>() zero = Constant<value = uint8 {0}>()"
    around = "q = QuantizeLinear(image, scale, zero) d = DequantizeLinear(q, scale, zero)"
    text = f"g (float[n,3,8,8] image) => (float[n,3] f) {{ {step} {around} p = GlobalAveragePool(d) f = Flatten(p) }}"
    return save(path, text)


def half(path):
    one = np.float16([1])
    steps = "h = Cast<to = 10>(image) m = Mul(h, one) p = GlobalAveragePool(m) f = Flatten(p)"
    return save(path, f"g (float[n,3,8,8] image) => (float16[n,3] f) {{ {steps} }}", one=one)


@pytest.mark.parametrize(("write", "stored"), [(means, "fp32"), (quantised, "int8"), (half, "fp16")])
@pytest.mark.parametrize("declared", PRECISIONS)
def test_a_precision_that_the_weights_contradict_is_refused(write, stored, declared, tmp_path):
    path = write(tmp_path / "m.onnx")
    may_be = {"fp32": {"fp32", "bf16"}, "int8": {"int8"}, "fp16": {"fp16"}}[stored]
    if declared in may_be and declared in ("fp32", "int8"):
        assert describe("m", path, preprocessing={}, precision=declared, source="test").precision == declared
    elif declared not in may_be:
        with pytest.raises(EncoderError, match=rf"declared {declared}, but its weights are {stored}"):
            describe("m", path, preprocessing={}, precision=declared, source="test")


def test_half_precision_without_a_gpu_is_refused_with_the_remedy(tmp_path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU that honours fp16")
    with pytest.raises(EncoderError, match=r"nothing on this machine computes in fp16; use a CUDA GPU"):
        describe("m", half(tmp_path / "m.onnx"), preprocessing={}, precision="fp16", source="test")


def test_bf16_is_computed_in_bf16_or_refused(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(64, 3, 3, 3)).astype(np.float32)
    text = "g (float[n,3,8,8] a) => (float[n,64] b) { c = Conv(a, k) p = GlobalAveragePool(c) b = Flatten(p) }"
    path = save(tmp_path / "m.onnx", text, k=kernel)
    if not providers("bf16"):
        with pytest.raises(EncoderError, match=r"nothing on this machine computes in bf16; use an Intel CPU"):
            describe("m", path, preprocessing={}, precision="bf16", source="test")
        return
    exact = embed(path, images(4))
    rounded = Encoder(describe("m", path, preprocessing={}, precision="bf16", source="test"), path).embed(images(4))
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.05


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="unknown precision fp64"):
        describe("m", means(tmp_path / "m.onnx"), preprocessing={}, precision="fp64", source="test")
