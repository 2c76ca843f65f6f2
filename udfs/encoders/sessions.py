"""Opens an ONNX Runtime session on the fastest provider of this machine that honours a precision."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfs.encoders.onnx_file import OnnxFile
from udfs.errors import EncoderError, shortened
from udfs.processors import cores

if TYPE_CHECKING:
    import onnxruntime as ort

PRECISIONS = ("fp32", "bf16", "fp16", "int8")

# Images in one run: few stay in a CPU's caches, a GPU wants many. Each of DuckDB's threads makes runs
# of its own, so the CPU provider gets one thread for each: two that share two cores wait for each other.
_BATCHES = {"CUDA": 64, "OpenVINO": 8, "CPU": 4}
_CPU_THREADS = 1
_HONOURED = {"CUDA": {"fp32", "fp16"}, "OpenVINO": {"fp32", "bf16", "int8"}, "CPU": {"fp32", "int8"}}
_REMEDIES = {
    "bf16": "use an Intel CPU that has BF16 with onnxruntime-ep-openvino, or declare fp32",
    "fp16": "use a CUDA GPU with onnxruntime-gpu",
}


@dataclass(frozen=True)
class Session:
    """An open session, its provider's short name, and how many images each of its runs takes."""

    session: ort.InferenceSession
    provider: str
    batch: int


def open_session(file: OnnxFile, precision: str, input_px: int) -> Session:
    """Open `file` where `precision` is honoured: on CUDA, else OpenVINO, else ONNX Runtime's own CPU provider.

    Raises EncoderError when no provider here honours it, or none can run the file.
    """
    _check_precision(file, precision)
    why = f"nothing on this machine computes in {precision}"
    remedy = _REMEDIES.get(precision, "export it again, with an older opset if need be")
    for provider in providers(precision):
        try:
            session = open_on(file, provider, precision, input_px)
        except runtime_errors() as error:
            why = f"{provider} cannot run it ({summary(error)})"
            continue
        if session is not None:
            return session
    raise EncoderError(f"{file.path}: {why}; {remedy}")


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises when it cannot open or run a graph; they share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = "EPFail Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException"
    return tuple(getattr(state, name) for name in names.split())


def summary(error: Exception) -> str:
    """What ONNX Runtime says, in a line, without the file's path, which the message has."""
    said = re.sub(r"Load model from .* failed: ?", "", str(error))
    return shortened(next(iter(said.splitlines()), type(error).__name__))


def _check_precision(file: OnnxFile, precision: str) -> None:
    """Refuse a declaration that the graph itself contradicts."""
    if precision not in PRECISIONS:
        raise EncoderError(f"{file.path}: unknown precision {precision}; declare one of {', '.join(PRECISIONS)}")
    stored = "int8" if file.is_quantised else "fp16" if file.is_half else "fp32"
    if stored != ("fp32" if precision == "bf16" else precision):
        raise EncoderError(f"{file.path}: declared {precision}, but its weights are {stored}; declare {stored}")


def providers(precision: str) -> list[str]:
    """The providers of this machine that honour `precision`, fastest first; empty where none does."""
    import onnxruntime as ort

    present = ["CPU"]
    if _openvino_device() is not None and (precision != "bf16" or _computes_bf16()):
        present.insert(0, "OpenVINO")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        present.insert(0, "CUDA")
    return [provider for provider in present if precision in _HONOURED[provider]]


def open_on(file: OnnxFile, provider: str, precision: str, input_px: int) -> Session | None:
    """A session that runs on `provider`, one of `providers`; None where ONNX Runtime left it for another.

    Raises one of `runtime_errors` when the provider cannot open the file.
    """
    import onnxruntime as ort

    batch = file.batch if isinstance(file.batch, int) else _BATCHES[provider]
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors are raised; warnings about graphs are no user's business
    for name, size in ((file.batch, batch), (file.height, input_px), (file.width, input_px)):
        if isinstance(name, str):
            options.add_free_dimension_override_by_name(name, size)
    if provider == "OpenVINO":
        hint = "bf16" if precision == "bf16" else "f32"
        if precision != "fp32":  # of bf16, what OpenVINO left to the CPU provider would be in fp32; of int8, slow
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        cpu = {"INFERENCE_PRECISION_HINT": hint}
        if cores() < (os.cpu_count() or 1):  # or each process would pin as many threads as there are cores, to the same
            cpu |= {"INFERENCE_NUM_THREADS": str(cores()), "ENABLE_CPU_PINNING": "NO"}
        options.add_provider_for_devices([_openvino_device()], {"load_config": json.dumps({"CPU": cpu})})
        return Session(ort.InferenceSession(file.path, options), provider, batch)
    if provider == "CPU":
        options.intra_op_num_threads = _CPU_THREADS
        if not _sums_bytes():  # there int8's sums of two would be cut off at 16 bits; right ones take longer
            options.add_session_config_entry("session.x64quantprecision", "1")
        return Session(ort.InferenceSession(file.path, options, ["CPUExecutionProvider"]), provider, batch)
    cuda = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}  # TF32 is not fp32; the search may vary
    session = ort.InferenceSession(file.path, options, [("CUDAExecutionProvider", cuda)])
    return Session(session, provider, batch) if "CUDAExecutionProvider" in session.get_providers() else None


@functools.cache
def _openvino_device() -> Any | None:
    """The CPU as the OpenVINO plugin offers it: it does so for Intel's alone. None without one."""
    import onnxruntime as ort

    try:
        import onnxruntime_ep_openvino as plugin
    except ImportError:
        return None
    ort.register_execution_provider_library("OpenVINO", plugin.get_library_path())
    cpu = ort.OrtHardwareDeviceType.CPU
    devices = [device for device in ort.get_ep_devices() if device.ep_name == plugin.get_ep_name()]
    return next((device for device in devices if device.device.type == cpu), None)


def _computes_bf16() -> bool:
    """Whether this CPU has BF16 arithmetic; False where the system does not tell."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_flags())


def _sums_bytes() -> bool:
    """Whether this x86 CPU sums products of bytes at 32 bits (VNNI); False where the system does not tell."""
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(_flags())


@functools.cache
def _flags() -> frozenset[str]:
    """What Linux says that this CPU can do."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()
