"""Which process of several this one is, as its launcher says it.

Slurm, torchrun, Open MPI, SkyPilot, and Kubernetes where the number of workers is given: they
number their processes in environment variables, and nothing is asked of them but that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Worker:
    """A process among several."""

    number: int
    """From 0."""
    workers: int
    local: int
    """Its number among those of its machine, where the launcher tells it; else 0."""
    source: str
    """The variable that numbers it."""


@dataclasses.dataclass(frozen=True)
class _Variables:
    """How a launcher numbers its processes."""

    number: str
    workers: str
    local: str | None = None
    first: str | None = None
    """What is subtracted: an array of jobs need not begin at 0."""
    step: str | None = None
    """What the distance is divided by."""
    needs: str | None = None
    """Without it the variables are there, but nothing was launched."""


_LAUNCHERS = (
    _Variables(
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        first="SLURM_ARRAY_TASK_MIN",
        step="SLURM_ARRAY_TASK_STEP",
    ),
    # A batch script has them as well, and is no worker: srun alone makes steps.
    _Variables(
        "SLURM_PROCID",
        "SLURM_NTASKS",
        local="SLURM_LOCALID",
        needs="SLURM_STEP_ID",
    ),
    _Variables("RANK", "WORLD_SIZE", local="LOCAL_RANK"),
    _Variables(
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        local="OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    _Variables("SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"),
)
_ARRAY = "SLURM_ARRAY_TASK_ID"
_UNCOUNTED = ("JOB_COMPLETION_INDEX",)
"""Variables that number a process without saying of how many: Kubernetes' indexed jobs."""


@dataclasses.dataclass(frozen=True)
class Asker:
    """Who asks, for messages, and who may answer."""

    option: str
    """What was given, such as `--worker auto`."""
    launched: str
    """How to be numbered by a launcher."""
    by_hand: str
    """How to give the number instead."""
    arrays: bool = True
    """Whether the jobs of an array may be the processes: they start when they like."""


WORKERS = Asker(
    option="--worker",
    launched="srun, an array of jobs, torchrun, mpirun or SkyPilot; give --worker auto/N in an"
    " indexed job of Kubernetes",
    by_hand="--worker I/N",
)


def find_worker(
    environ: Mapping[str, str], workers: int | None = None, asker: Asker = WORKERS
) -> Worker:
    """The worker that this process is.

    Args:
        environ: environment variables.
        workers: how many there are, where the launcher does not say it (`--worker auto/8`); where
            it does, it must say the same.
        asker: whose option is named in messages.

    Raises:
        UsageError: no launcher has numbered this process, two have done so differently, a variable
            is no number, or `workers` is not theirs.
    """
    told = list(_told(environ, asker))
    # A launcher of one process may well run inside another one's.
    several = [worker for worker in told if worker.workers > 1] or told[:1]
    if not several and workers is not None:
        for name in _UNCOUNTED:
            if name in environ:
                several.append(_counted(environ, name, workers, asker))
    if not several:
        names = [launcher.number for launcher in _launchers(asker)]
        raise UsageError(
            rule=f"{asker.option} auto needs a launcher that numbers its processes",
            got=f"none of {', '.join(names)} with the number of processes",
            fix=f"Start it with {asker.launched}, or {asker.by_hand}.",
        )
    first, *others = several
    for other in others:
        # Guessing would leave shards unwritten, or written by two.
        if (other.number, other.workers) != (first.number, first.workers):
            raise UsageError(
                rule="launchers that number one process must agree",
                got=f"{first.number} of {first.workers} by {first.source}, {other.number} of"
                f" {other.workers} by {other.source}",
                fix=f"Give the right one: {asker.by_hand}.",
            )
    if workers is not None and workers != first.workers:
        raise UsageError(
            rule=f"{asker.option} auto/N must have the launcher's number of processes",
            got=f"auto/{workers}, and {first.workers} by {first.source}",
            fix=f"Give {asker.option} auto.",
        )
    # Of launchers that agree, the one that knows the machine.
    local = max(worker.local for worker in several)
    return dataclasses.replace(first, local=local)


def _launchers(asker: Asker) -> list[_Variables]:
    return [launcher for launcher in _LAUNCHERS if asker.arrays or launcher.number != _ARRAY]


def _told(environ: Mapping[str, str], asker: Asker) -> Iterator[Worker]:
    """The worker that this process is by each launcher that says so."""
    for launcher in _launchers(asker):
        # One without the other numbers nobody: RANK is a name that others use as well.
        if launcher.number not in environ or launcher.workers not in environ:
            continue
        if launcher.needs is not None and launcher.needs not in environ:
            continue
        # Arrays begin anywhere, and count in steps.
        first = _optional(environ, launcher.first, 0, asker)
        # A step of 0 is none: Slurm refuses it, others may not.
        step = max(1, _optional(environ, launcher.step, 1, asker))
        number = (_number(environ, launcher.number, asker) - first) // step
        local = _optional(environ, launcher.local, 0, asker)
        workers = _number(environ, launcher.workers, asker)
        yield _checked(Worker(number, workers, local, launcher.number), asker)


def _counted(environ: Mapping[str, str], name: str, workers: int, asker: Asker) -> Worker:
    return _checked(Worker(_number(environ, name, asker), workers, 0, name), asker)


def _checked(worker: Worker, asker: Asker) -> Worker:
    if 0 <= worker.number < worker.workers:
        return worker
    raise UsageError(
        rule="a launcher must number its processes from 0 to their number less one",
        got=f"number {worker.number} of {worker.workers} by {worker.source}",
        fix=f"Give {asker.by_hand}.",
    )


def _optional(environ: Mapping[str, str], name: str | None, default: int, asker: Asker) -> int:
    # Not every launcher has such a variable, and one that has may leave it out.
    if name is None or name not in environ:
        return default
    return _number(environ, name, asker)


def _number(environ: Mapping[str, str], name: str, asker: Asker) -> int:
    text = environ[name]
    # isdecimal, not isdigit, which takes signs that `int` refuses, such as ².
    if not text.isdecimal():
        raise UsageError(
            rule=f"{name} must be a whole number",
            got=repr(text),
            fix=f"Give {asker.by_hand}.",
        )
    return int(text)
