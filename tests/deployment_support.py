"""What the tests of deploy/ share: its files, read as their programs read them, and their commands, run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from support import ROOT, until

DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sys.executable).parent
ACCOUNT = {"AWS_ACCESS_KEY_ID": "histolake", "AWS_SECRET_ACCESS_KEY": "0123456789abcdef", "RAY_AUTH_TOKEN": "a" * 48}
PATIENCE = 240.0  # seconds for a service to answer
STARTS = 8  # of a node of Ray, on a machine that is busy with other tests


def instructions(word: str) -> list[str]:
    """The arguments of an instruction of the container file, each as one line, in its order."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.split(" ")[0] == word]


def exec_form(text: str) -> list[str]:
    """The words of an instruction in JSON, as CMD and HEALTHCHECK have it."""
    found = json.loads(text[text.index("[") :])
    assert all(isinstance(word, str) for word in found)
    return list(found)


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with its variables filled in, as `compose config` shows it."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")

    def fill(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        value = environment.get(name) or (rest if operator == ":-" else "")
        if not value and operator == ":?":
            raise KeyError(f"{name}: {rest}")
        return value

    told: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", fill, text))
    return told


def manifests() -> list[dict[str, Any]]:
    """The documents of the Kubernetes file."""
    return list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text(encoding="utf-8")))


def program(name: str) -> str:
    """Where a program is: beside the tests' Python, or where the shell finds it."""
    found = shutil.which(name, path=os.pathsep.join([str(PROGRAMS), os.environ["PATH"]]))
    assert found, f"{name} is not installed"
    return found


@dataclass(frozen=True)
class Here:
    """What stands for the containers' hosts, ports and folders on this machine."""

    words: Mapping[str, str]

    def __call__(self, text: str) -> str:
        """The text with this machine's names."""
        for word, ours in self.words.items():
            text = re.sub(rf"(?<![\w.])(?<!\w/){re.escape(word)}(?![\w.])", ours, text)
        return text

    def command(self, words: Sequence[str]) -> list[str]:
        """A command with this machine's names, its program taken from where the tests' packages are."""
        return [program(Path(words[0]).name), *map(self, words[1:])]


def healthy(here: Here, service: Mapping[str, Any], environment: Mapping[str, str]) -> Callable[[], bool]:
    """Whether the service's health check, run here, says so."""
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD"
    command = here.command(words)

    def is_healthy() -> bool:
        try:
            return subprocess.run(command, env={**environment}, capture_output=True, timeout=60).returncode == 0
        except subprocess.TimeoutExpired:  # nothing answers yet
            return False

    return is_healthy


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, may_end: bool = False, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of our own while the block runs, at whose end it is there still; ended with all that it started."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**environment}, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    try:
        yield process
        assert may_end or process.poll() is None, log.read_text(errors="replace")[-2000:]
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):  # also of what it leaves behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def wait_until(is_ready: Callable[[], bool], log: Path) -> None:
    """Return when `is_ready` says so; fail with the end of the log when it does not in time."""
    try:
        until(is_ready, "it is ready", PATIENCE)
    except AssertionError:
        raise AssertionError(log.read_text(errors="replace")[-2000:]) from None


def has_begun(node: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether `ray start` is past its beginning: it says so, or has ended."""
    return b"Ray runtime started" in log.read_bytes() or node.poll() is not None


def start_node(ended: ExitStack, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Start a node of Ray, again when it ends, as compose does: it does when its agents take more than 15 seconds."""
    for _ in range(STARTS):
        with ExitStack() as attempt:
            process = attempt.enter_context(running(command, environment, log, may_end=True))
            wait_until(partial(has_begun, process, log), log)
            if process.poll() is None:
                ended.push(attempt.pop_all())
                return
    raise AssertionError(log.read_text(errors="replace")[-2000:])
