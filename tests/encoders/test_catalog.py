"""The encoders that ship: the cache, the choice, and what importing costs."""

import json
import os
import subprocess
import sys

import pytest

from udfs.encoders import catalog, inception_v3
from udfs.encoders.encoder import Encoder, describe
from udfs.errors import EncoderError


def python(code, **environment):
    """Run `code` in a fresh interpreter that finds histolake as this one does."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.Popen([sys.executable, "-c", code], env=found, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and an empty folder of weights, so that nothing is fetched."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HISTOLAKE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "cache"


def test_a_built_in_is_built_once_and_is_what_its_file_says(cache):
    spec, path = catalog.prepare("efficientnet_lite0")
    assert path.is_relative_to(cache)
    made = path.stat().st_mtime_ns
    assert catalog.prepare("efficientnet_lite0") == (spec, path)
    assert path.stat().st_mtime_ns == made
    assert describe(spec.name, path, preprocessing={}, precision="fp32", source=spec.source) == spec
    assert Encoder(spec, path).provider in ("CUDA", "OpenVINO", "CPU")
    assert not list(path.parent.glob("*.partial"))


def test_a_built_in_that_was_altered_in_the_cache_is_refused_and_one_without_a_hash_is_built_anew(cache):
    spec, path = catalog.prepare("efficientnet_lite0")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EncoderError, match=r"not the file that was built here .* delete it"):
        catalog.prepare("efficientnet_lite0")
    path.with_suffix(".sha256").unlink()  # of a cache that an earlier version filled
    assert catalog.prepare("efficientnet_lite0") == (spec, path)
    assert path.read_bytes() == content


def test_two_processes_at_once_get_the_same_encoder(cache):
    code = "from udfs.encoders.catalog import prepare; print(prepare('efficientnet_lite0')[0].encoder_id)"
    first, second = python(code), python(code)
    assert first.communicate(timeout=240)[0] == second.communicate(timeout=240)[0] != ""
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_build_that_fails_leaves_nothing_behind(cache):
    with pytest.raises(EncoderError, match="not in the folder"):
        catalog.prepare("inception_v3")
    assert [path.suffix for path in (cache / "encoders").iterdir()] == [".lock"]


def test_an_encoder_that_does_not_ship_is_refused_with_the_choice(cache):
    with pytest.raises(EncoderError, match="no encoder resnet ships here; choose inception_v3 or inception_v3_int8 or"):
        catalog.prepare("resnet")


def test_auto_without_weights_is_the_embedded_encoder_and_says_why(cache):
    assert not catalog.available("inception_v3")
    assert catalog.available("efficientnet_lite0")
    name, reason = catalog.choose_auto()
    assert name == "efficientnet_lite0"
    assert f"{inception_v3.WEIGHTS.name}: not in the folder" in reason


def test_auto_with_weights_at_hand_is_the_reference(cache, tmp_path):
    (tmp_path / "weights" / inception_v3.WEIGHTS.name).touch()
    assert catalog.available("inception_v3")
    assert catalog.choose_auto() == ("inception_v3", "inception_v3: its weights are on this machine.")


def test_importing_loads_no_engine():
    engines = {"onnx", "onnxruntime", "h5py", "torch", "keras", "requests", "rich"}
    code = "import sys, json, udfs.embed, udfs.encoders.catalog; print(json.dumps(list(sys.modules)))"
    assert engines.isdisjoint(json.loads(python(code).communicate(timeout=240)[0]))
