"""The deep head fitted on a Ray cluster: Ray Train starts a worker for each shard, PyTorch adds up their gradients.

When a worker dies all are started again and go on from the last checkpoint, which lies beside the lake's tables
while the training runs.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from lake import storage
from lake.deep import REPORT, Portion, Training
from lake.heads import Parameters
from lake.network import Network
from lake.ray_shards import Source
from lake.row_sums import Moments
from lake.selection import Rows, TrainingSet, auc_of, has_both_classes, is_over
from udfs.errors import HistolakeError

FAILURES = 4  # of the workers, after which training ends
FOLDER = "training"  # in the lake's folder, while a network is fitted there
STATE = "state.pt"


@dataclass(frozen=True)
class Job:
    """What the workers fit. rows, held: of each shard, by their numbers in it; see `Labelled.fits`."""

    source: Source
    cpus: int
    moments: Moments
    rows: list[Rows]
    held: list[Rows]
    candidates: list[Parameters]


@dataclass
class Progress:
    """How far a training is, and what going on takes.

    networks, aucs: of the candidates so far. losses: the mean over every hundred steps.
    """

    networks: list[Network] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    aucs: list[float] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it there."""
        import torch

        networks = [(each.content, each.losses) for each in self.networks]
        torch.save(
            {"networks": networks, "losses": self.losses, "aucs": self.aucs, "state": self.state}, folder / STATE
        )

    @classmethod
    def load(cls, folder: Path) -> Progress:
        """Read what `save` wrote; nothing is unpickled but tensors, numbers and texts."""
        import torch

        found = torch.load(folder / STATE, weights_only=True)
        return cls([Network(*each) for each in found["networks"]], found["losses"], found["aucs"], found["state"])


def networks(
    source: Source,
    cpus: int,
    moments: Moments,
    rows: list[Rows],
    held: list[Rows],
    candidates: Sequence[Parameters],
) -> Iterator[Network]:
    """The network after so many steps as each candidate says, until one is clearly worse on the rows held.

    Raises ModelError where PyTorch is missing, HistolakeError when workers die again and again.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    files, folder = _place(source.root / FOLDER)
    name = f"deep-{uuid.uuid4().hex[:12]}"
    trainer = TorchTrainer(
        _fit,
        train_loop_config={"job": Job(source, cpus, moments, rows, held, list(candidates))},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=len(source.shards), resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name=name,
            storage_filesystem=files,
            storage_path=folder,
            failure_config=FailureConfig(max_failures=FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        result = trainer.fit()
        assert result.checkpoint is not None  # noqa: S101 (the first candidate reports one)
        with result.checkpoint.as_directory() as at:
            progress = Progress.load(Path(at))
    except TrainingFailedError as error:
        raise _why(error) from error
    finally:
        with suppress(FileNotFoundError):
            files.delete_dir(f"{folder}/{name}")
    yield from progress.networks


def _place(folder: Any) -> tuple[FileSystem, str]:
    """A folder of the lake, on disk or in object storage, as Arrow knows it."""
    if storage.is_remote(folder):
        return PyFileSystem(FSSpecHandler(folder.fs)), folder.path
    folder.mkdir(exist_ok=True)
    return LocalFileSystem(), str(folder)


def _fit(config: Mapping[str, Any]) -> None:
    """What each worker does: all go through the same steps, each reports them, and the first keeps the checkpoint."""
    import ray.train
    import torch
    import torch.distributed
    from torch.nn.parallel import DistributedDataParallel

    job: Job = config["job"]
    context = ray.train.get_context()
    number, workers = context.get_world_rank(), context.get_world_size()
    data = job.source.part(number, job.cpus).data
    portion = Portion(data.x, data.y, job.rows[number], first=sum(len(each) for each in job.rows[:number]))
    training = Training(portion, job.moments, workers, DistributedDataParallel)
    progress = Progress()
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as at:
            progress = Progress.load(Path(at))
        training.go_on(progress.state)
    for parameters in job.candidates[len(progress.networks) :]:
        while training.steps < parameters["steps"]:
            part = torch.tensor(training.fit(min(REPORT, parameters["steps"] - training.steps)), dtype=torch.float64)
            torch.distributed.all_reduce(part)
            progress.losses.append(part.item())
            if training.steps == parameters["steps"]:
                progress.networks.append(replace(training.network(), losses=tuple(progress.losses)))
                progress.aucs.append(_auc(data, progress.networks[-1], job.held[number], workers))
            progress.state = training.state()
            _report(progress, number)
        if is_over(progress.aucs):
            break


def _auc(data: TrainingSet, network: Network, held: Rows, workers: int) -> float:
    """On the rows held by all workers; 0 where those lack a class, so that no candidate is worse than another."""
    import torch.distributed

    told: list[Any] = [None] * workers
    torch.distributed.all_gather_object(told, (data.y[held], data.probability(network, held)))
    labels, probabilities = (np.concatenate(each) for each in zip(*told, strict=True))
    return auc_of(labels, probabilities) if has_both_classes(labels) else 0.0


def _report(progress: Progress, number: int) -> None:
    """Tell Ray Train how far the training is; the first worker's checkpoint is everybody's."""
    import ray.train

    told = {"loss": progress.losses[-1], "steps": len(progress.losses) * REPORT}
    if number:
        ray.train.report(told)
        return
    with tempfile.TemporaryDirectory() as folder:
        progress.save(Path(folder))
        ray.train.report(told, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _why(error: Exception) -> HistolakeError:
    """What went wrong in a worker, else with Ray itself, in a sentence."""
    failures: list[Exception] = [*getattr(error, "worker_failures", {}).values(), error]
    for failure in failures:
        if isinstance(failure, HistolakeError):
            return failure
    first = failures[0]
    why = next(iter(str(first).strip().splitlines()), type(first).__name__)
    return HistolakeError(f"training on --engine ray: workers cannot go on: {why}")
