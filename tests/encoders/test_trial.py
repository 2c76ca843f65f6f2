"""Encoders from strangers: what hostile ONNX files do is done to a process that can be lost."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from udfs.encoders import onnx_file, trial
from udfs.encoders.encoder import describe
from udfs.encoders.onnx_file import external_data, inspect
from udfs.encoders.trial import tried
from udfs.errors import EncoderError

HEAD = '<ir_version: 8, opset_import: ["": 17, "evil.ops": 1, "local": 1]> '
FACTS = {"preprocessing": {}, "precision": "fp32", "source": "test"}
MEANS = "p = GlobalAveragePool(image) f = Flatten(p)"


def save(
    path: Path, steps: str, *, image: str = "n,3,8,8", features: str = "n,3", kind: str = "float", more: str = ""
) -> Path:
    """Write a graph of these steps from `image` to `f`, in ONNX's text form."""
    text = f"{HEAD} g (float[{image}] image) => ({kind}[{features}] f) {{ {steps} }} {more}"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def external(path: Path, location: str) -> Path:
    """A graph with an initializer whose numbers lie in another file."""
    model = onnx.load(str(save(path, "m = Mul(image, w) p = GlobalAveragePool(m) f = Flatten(p)")))
    held = numpy_helper.from_array(np.ones(1, np.float32), "w")
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value=location)
    model.graph.initializer.append(held)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_sound_file_is_accepted_with_the_spec_that_it_has_anyway(tmp_path: Path) -> None:
    path = save(tmp_path / "means.onnx", MEANS)
    spec, provider = tried("means", path, **FACTS)
    assert spec == describe("means", path, **FACTS)
    assert provider in ("CUDA", "OpenVINO", "CPU")


ENDLESS = """most = Constant<value = int64 {9223372036854775807}>() yes = Constant<value = bool {1}>()
    p = GlobalAveragePool(image) f0 = Flatten(p)
    f = Loop(most, yes, f0) <body = b (int64 i, bool c, float[a,b] x) => (bool d, float[a,b] y)
    { d = Identity(c) y = Identity(x) }>"""
LARGE = """size = Constant<value = int64[4] {2147483647, 3, 64, 64}>() zeros = ConstantOfShape(size)
    s = ReduceSum(zeros) p = GlobalAveragePool(image) q = Flatten(p) f = Add(q, s)"""

HOSTILE: dict[str, tuple[str, dict[str, str], str]] = {
    "an operator of nobody": ("q = evil.ops.Shell(image) p = GlobalAveragePool(q) f = Flatten(p)", {}, "cannot run it"),
    "a circle": ("a = Identity(b) b = Identity(a) p = GlobalAveragePool(b) f = Flatten(p)", {}, "cannot run it"),
    "numbers without end": (LARGE, {}, r"cannot run it|ended the process|more than .* GB"),
    "no numbers": (
        "none = Constant<value = int64[2] {-1, 0}>() p = GlobalAveragePool(image) q = Flatten(p) "
        "e = Constant<value = int64[1] {0}>() o = Constant<value = int64[1] {1}>() f = Slice(q, e, e, o)",
        {"features": "n,m"},
        "holds no numbers",
    ),
    "text": (
        "p = GlobalAveragePool(image) q = Flatten(p) f = Cast<to = 8>(q)",
        {"kind": "string"},
        "no array of numbers",
    ),
    "a number alone": ("f = ReduceMean<keepdims = 0>(image)", {"features": "n,m"}, "did not give as many"),
    "beyond float": (
        "d = Cast<to = 11>(image) big = Constant<value = double {1e300}>() m = Mul(d, big) "
        "p = GlobalAveragePool(m) f = Flatten(p)",
        {"kind": "double"},
        "not finite|cannot run it",
    ),
    "rank five": ("f = Unsqueeze(image, a)", {"features": "n,1,3,8,8"}, "rank 5"),
    "a missing input": ("p = GlobalAveragePool(other) f = Flatten(p)", {}, "cannot run it"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_graph_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    steps, options, reason = HOSTILE[kind]
    path = save(tmp_path / "hostile.onnx", steps, **options)
    with pytest.raises(EncoderError, match=reason) as refused:
        tried("hostile", path, **FACTS, seconds=60, memory=2**31)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert "export" in said


def test_a_graph_that_never_ends_is_ended(tmp_path: Path) -> None:
    path = save(tmp_path / "endless.onnx", ENDLESS)
    with pytest.raises(EncoderError, match=r"endless\.onnx: it was not opened and run once within 3 s"):
        tried("endless", path, **FACTS, seconds=3)


def test_a_process_that_crashes_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fault in native code does to the process: here a file of its name, which Python imports first, does it."""
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(trial, "PROJECT", f"{tmp_path}{os.pathsep}{trial.PROJECT}")
    path = save(tmp_path / "means.onnx", MEANS)
    with pytest.raises(EncoderError, match=r"means\.onnx: it ended the process that tried it \(SIGSEGV\); export it"):
        tried("means", path, **FACTS)


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../outside.bin", "missing.bin", "link.bin", "a/../../outside.bin", "", ".", "x" * 5000, "\0"],
)
def test_weights_that_lie_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"\0\0\x80\x3f")
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    path = external(folder / "network.onnx", location)
    for look in (inspect, external_data):
        with pytest.raises(EncoderError, match=r"not beside it; copy them together"):
            look(path)


def test_links_in_a_circle_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a.bin").symlink_to(tmp_path / "b.bin")
    (tmp_path / "b.bin").symlink_to(tmp_path / "a.bin")
    with pytest.raises(EncoderError, match=r"not beside it"):
        inspect(external(tmp_path / "network.onnx", "a.bin"))


def sparse(model: onnx.ModelProto, tensor: TensorProto) -> None:
    tensor.dims[:] = [1]
    held = model.graph.sparse_initializer.add(dims=[4])
    held.values.CopyFrom(tensor)
    held.indices.CopyFrom(numpy_helper.from_array(np.array([0], np.int64)))


def in_a_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    function = helper.make_function(
        "local",
        "F",
        ["x"],
        ["y"],
        [helper.make_node("Constant", [], ["y"], value=tensor)],
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(function)


def in_a_constant(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


@pytest.mark.parametrize("put", [sparse, in_a_function, in_a_constant])
def test_weights_are_found_wherever_a_graph_can_hold_them(
    put: Callable[[onnx.ModelProto, TensorProto], None], tmp_path: Path
) -> None:
    """Else they could be exchanged without the encoder's identity changing, or lie outside its folder."""
    path = save(tmp_path / "network.onnx", MEANS)
    model = onnx.load(str(path))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    put(model, tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EncoderError, match=r"'weights.bin', not beside it"):
        inspect(path)
    (tmp_path / "weights.bin").write_bytes(b"\0\0\x80\x3f")
    before = inspect(path).sha256
    assert external_data(path) == ["weights.bin"]
    (tmp_path / "weights.bin").write_bytes(b"\0\0\x00\x40")
    assert inspect(path).sha256 != before


@pytest.mark.parametrize("name", ["a.json", "a.onnxtxt", "a.textproto", "a.ort", "a"])
def test_the_ending_of_a_name_changes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'{"graph": {"node": [{}]}}')
    with pytest.raises(EncoderError, match=r"not an ONNX file"):
        inspect(tmp_path / name)


def test_a_file_that_is_cut_off_anywhere_is_refused_or_looked_into(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.onnx", MEANS).read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with suppress(EncoderError):
            assert inspect(path).sha256 == hashlib.sha256(whole[:length]).hexdigest()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "network.onnx", MEANS)
    path.write_bytes(path.read_bytes().replace(b"image", b"\xff\xfe\xfd\xfc\xfb"))
    with pytest.raises(EncoderError, match=r"not an ONNX file|not UTF-8 text"):
        inspect(path)


def test_devices_folders_and_what_is_larger_than_any_onnx_file_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", tmp_path, Path("/dev/zero")):
        with pytest.raises(EncoderError, match=r"not a file"):
            inspect(path)
    with pytest.raises(EncoderError, match=r"give the path"):
        inspect(Path("a\0b"))
    (tmp_path / "large.onnx").touch()
    os.truncate(tmp_path / "large.onnx", onnx_file.MAX_BYTES + 1)
    with pytest.raises(EncoderError, match=r"larger than 2 GB"):
        inspect(tmp_path / "large.onnx")


def test_what_lies_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody stands in the folder that a stranger's encoder came in."""
    (tmp_path / "onnx.py").write_text("raise SystemExit('a file of the current folder was run')")
    monkeypatch.chdir(tmp_path)
    tried("means", save(tmp_path / "means.onnx", MEANS), **FACTS)


def test_a_trial_gets_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "f\"secret: {'AWS_SECRET_ACCESS_KEY' in os.environ}, GPU {os.environ['CUDA_VISIBLE_DEVICES']}\""
    (tmp_path / "numpy.py").write_text(f"import os\nraise SystemExit({said})")  # which Python imports first
    monkeypatch.setattr(trial, "PROJECT", f"{tmp_path}{os.pathsep}{trial.PROJECT}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(EncoderError, match=r"it cannot be run \(secret: False, GPU 7\)"):
        tried("means", save(tmp_path / "means.onnx", MEANS), **FACTS)


def begun(path: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process that tries the encoder, and whose parent asks for no answer."""
    order = {"name": "e", "onnx_path": str(path), **FACTS, "input_px": None, "memory": 2**31, "seconds": seconds}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "udfs.encoders.trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(trial.PROJECT)},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(order).encode())
    process.stdin.close()
    return process


def test_a_trial_ends_though_its_parent_has_gone(tmp_path: Path) -> None:
    process = begun(save(tmp_path / "endless.onnx", ENDLESS), 1.0 - trial.LATER)
    assert process.wait(60) == -signal.SIGALRM


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's limits as Linux tells them")
def test_weights_of_any_size_give_no_more_memory_than_there_is(tmp_path: Path) -> None:
    """A file of 4 TB that is one hole takes no disk. Its hash takes hours, until the deadline."""
    path = external(tmp_path / "large.onnx", "hole.bin")
    (tmp_path / "hole.bin").touch()
    os.truncate(tmp_path / "hole.bin", 2**42)
    process = begun(path, 60)
    try:
        limit, until = 0, time.monotonic() + 60
        while limit < 2**31 + trial.installed() // 2:  # set once for the file, and again for its weights
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            told = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max address space"))
            limit = 0 if told == "unlimited" else int(told)
        assert limit < trial.installed() + 2**34
    finally:
        process.kill()
        process.wait()


def test_what_a_library_says_of_a_file_is_told_short_and_in_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "loud.onnx", MEANS)
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "\x1b[31m" * 1_000
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EncoderError, match=r"loud\.onnx: .* cannot run it \(") as refused:
        tried("loud", path, **FACTS)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < len(str(path)) + 400
