"""Windows of a file to the actors of a cluster, for as long as the file takes."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from glot_jax.cluster.in_order import TextItem, in_order
from glot_jax.cluster.ray_pool import RayPool, Workman, connected
from glot_jax.cluster.work_queue import Limits
from glot_jax.cluster_inference.run_actors import (
    EncoderActor,
    PredictorActor,
    RunFacts,
    RunSettings,
)
from glot_jax.config.machines import RayChoice
from glot_jax.inference.answering import Answers
from glot_jax.inference.row_files import Spread, Window

Result = TypeVar("Result")


@contextlib.contextmanager
def encoding_actors(
    choice: RayChoice, settings: RunSettings
) -> Generator[tuple[Spread[np.ndarray], int]]:
    """Actors that encode, for the time of the block.

    Yields:
        What `encode_file` asks for vectors, and their width.

    Raises:
        UsageError: no cluster, no actor, or whatever is wrong with the run.
    """
    make = functools.partial(EncoderActor, settings.elsewhere())
    with _actors(choice, settings, make) as (spread, facts):
        yield spread, facts.dim


@contextlib.contextmanager
def predicting_actors(choice: RayChoice, settings: RunSettings) -> Generator[Spread[Answers]]:
    """Actors that predict, for the time of the block.

    Yields:
        What `predict_file` asks for answers.

    Raises:
        UsageError: no cluster, no actor, or whatever is wrong with the runs.
    """
    make = functools.partial(PredictorActor, settings.elsewhere())
    with _actors(choice, settings, make) as (spread, _):
        yield spread


@contextlib.contextmanager
def _actors(
    choice: RayChoice,
    settings: RunSettings,
    make: Callable[[], Workman[RunFacts, TextItem[Any], Result]],
) -> Generator[tuple[Spread[Result], RunFacts]]:
    seconds = 60.0 * choice.ray_timeout
    say = functools.partial(print, file=sys.stderr)
    takes_gpus = settings.frozen.device != "cpu"
    with connected(choice, takes_gpus=takes_gpus) as room:
        # Said before any code is sent.
        say(room.describe())
        with RayPool(room, make, say) as pool:
            facts = pool.start(seconds)
            limits = Limits(lonely_seconds=seconds)

            def spread(
                windows: Iterator[Window],
                texts: Callable[[Window], Sequence[Any]],
            ) -> Iterator[tuple[Window, Result]]:
                return in_order(
                    windows,
                    texts,
                    pool,
                    room.actors,
                    limits,
                )

            yield spread, facts
