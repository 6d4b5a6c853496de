"""Which options of XLA the steps of new runs get: measured once, and kept.

A choice is a small JSON file for each size of a step. Once it is there it stays: measured again on
a machine that has other work it might be another one, and two runs would differ in their last
digits.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import jax
import jaxlib

from glot_jax.errors import UsageError
from glot_jax.files import json_bytes, locked, read_json, write_bytes
from glot_jax.xla.cpu_options import XlaCpuOptions, takes_eigen, user_has_decided
from glot_jax.xla.probe import ProbeSeconds, ProbeShape, measure_probe

_MARGIN = 1.05
"""The default is left for what is faster by more than this."""
_CHOICES = ("default", "eigen", "xla")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the steps of a run are compiled with, and why."""

    options: XlaCpuOptions
    """Never `auto`."""
    reason: str | None = None
    """A line for people; None where nothing was measured."""


def choose_options(
    shape: ProbeShape,
    folder: Path | None,
    measure: Callable[[ProbeShape], ProbeSeconds] = measure_probe,
) -> Choice:
    """The options for the steps of a new run.

    Nothing is measured, and the default is chosen, where nothing can be kept, on a GPU, where
    `XLA_FLAGS` have decided, and for texts so long that there is nothing to choose.

    Args:
        shape: of the batch that a run trains most tokens in; its length is rounded up to a power of
            two, so that similar stores share a choice.
        folder: where choices are kept, which only its user may write to; None: nowhere.
        measure: gives the seconds of a miniature step.
    """
    shape = dataclasses.replace(shape, length=1 << (shape.length - 1).bit_length())
    if folder is None or not _is_open(shape):
        return Choice("default")
    path = folder / f"xla-cpu-options-{shape.name}.json"
    kept = _read(path)
    if kept is not None:
        return _again(kept, path)
    try:
        # Of several processes one measures, undisturbed by the others, and its choice is theirs.
        with locked(folder / "xla-cpu-options.lock", wait=True):
            kept = _read(path)
            if kept is not None:
                return _again(kept, path)
            return _keep(path, shape, measure(shape))
    except (OSError, UsageError) as error:
        # A choice that is not kept would be another one in the next run.
        return Choice("default", f"XLA's options: default, because no choice is kept: {error}")


def _again(options: XlaCpuOptions, path: Path) -> Choice:
    # Nothing unusual, so nothing is said.
    if options == "default":
        return Choice(options)
    return Choice(options, f"XLA's options: {options}, as measured before ({path})")


def _is_open(shape: ProbeShape) -> bool:
    """Whether there is anything to choose."""
    # A GPU has none of these options.
    if jax.default_backend() != "cpu" or user_has_decided():
        return False
    texts = (shape.texts, shape.length)
    # Of the longest texts no choice changes the products.
    return takes_eigen(texts, "eigen")


def decide(shape: ProbeShape, seconds: ProbeSeconds) -> XlaCpuOptions:
    """The faster options for a shape, or the default unless they are clearly faster."""
    if seconds.is_disturbed:
        return "default"
    if takes_eigen((shape.texts, shape.length), "default"):
        return "xla" if _clearly_faster(seconds.xla, seconds.eigen) else "default"
    return "eigen" if _clearly_faster(seconds.eigen, seconds.xla) else "default"


def _clearly_faster(these: Sequence[float], those: Sequence[float]) -> bool:
    # The fastest of each, because other work makes a run longer and nothing makes it shorter; and
    # most rounds, because a single run may be lucky.
    ratios = [that / this for this, that in zip(these, those, strict=True)]
    ratio = min(min(those) / min(these), statistics.median(ratios))
    return ratio > _MARGIN


def _keep(path: Path, shape: ProbeShape, seconds: ProbeSeconds) -> Choice:
    options = decide(shape, seconds)
    values = {
        "jaxlib": jaxlib.__version__,
        "options": options,
        "seconds": dataclasses.asdict(seconds),
    }
    # What is there and cannot be used is written over. Otherwise the first one's stays, also where
    # a file system has no locks.
    if not write_bytes(path, json_bytes(values), replace=path.exists()):
        return _again(_read(path) or "default", path)
    if seconds.is_disturbed:
        # Kept all the same: the next run must not have others.
        return Choice(
            options,
            "XLA's options: default, because the machine did other work while they were measured;"
            f" without {path} they are measured again",
        )
    eigen = 1000 * min(seconds.eigen)
    own = 1000 * min(seconds.xla)
    return Choice(
        options,
        f"XLA's options: {options} (eigen {eigen:.2f} ms, xla {own:.2f} ms for {shape.name}; kept"
        f" in {path.parent})",
    )


def _read(path: Path) -> XlaCpuOptions | None:
    """The choice in a file; None where there is none, or none that can be used."""
    # Missing is the usual case, and damaged is no worse: it is measured again.
    try:
        values = read_json(path)
    except UsageError:
        return None
    # Anybody's program may have written there, and another jaxlib has other products.
    if not isinstance(values, dict) or values.get("jaxlib") != jaxlib.__version__:
        return None
    options = values.get("options")
    if options not in _CHOICES:
        return None
    return cast("XlaCpuOptions", options)
