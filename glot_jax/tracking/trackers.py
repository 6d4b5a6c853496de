"""`Trackers`: those of one run, none of which can end it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from glot_jax.errors import lookup
from glot_jax.tracking.tracker import TRACKERS, TrackedRun, Tracker


class Trackers:
    """The trackers of a run. One that fails is named in a line, and told nothing more.

    Args:
        names: of TRACKERS.
        say: takes lines for people.
    """

    def __init__(self, names: Sequence[str], say: Callable[[str], None]):
        self._say = say
        self._is_blind = False
        # Made before the run begins, so that an unknown name is told at once.
        self._working: dict[str, Tracker] = {}
        for name in dict.fromkeys(names):
            self._working[name] = lookup(TRACKERS, name, "tracker (--track)")()

    @property
    def names(self) -> tuple[str, ...]:
        """Those that still follow the run."""
        return tuple(self._working)

    def begin(self, run: TrackedRun) -> None:
        """See Tracker.begin; each has a folder of its own in `run.folder`."""

        def begin(name: str, tracker: Tracker) -> None:
            folder = run.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            tracker.begin(TrackedRun(folder, run.name, run.settings, run.step))

        self._tell(begin)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker.scalars."""
        self._tell(lambda _, tracker: tracker.scalars(step, values))

    def histograms(self, step: int, look: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """See Tracker.histogram.

        Args:
            step: after which they are of.
            look: gives name -> numbers; called where somebody listens.
        """
        if not self._working or self._is_blind:
            return
        try:
            values = look()
        # Of a plugin's pooler, say: what is looked at is not needed to train.
        except Exception as error:
            self._is_blind = True
            self._say(f"no histograms for trackers: {_one_line(error)}")
            return
        for name, array in values.items():
            # What is not finite has no place in a histogram.
            finite = array[np.isfinite(array)].astype(np.float32)
            self._tell(functools.partial(_histogram, step, name, finite))

    def stop(self) -> None:
        """See Tracker.stop."""
        self._tell(lambda _, tracker: tracker.stop())

    def end(self, scores: Mapping[str, float]) -> None:
        """See Tracker.end."""
        self._tell(lambda _, tracker: tracker.end(scores))

    def _tell(self, call: Callable[[str, Tracker], None]) -> None:
        for name, tracker in list(self._working.items()):
            try:
                call(name, tracker)
            # Whatever a tool of somebody else raises: the run is worth more than its curve.
            except Exception as error:
                del self._working[name]
                self._say(
                    f"tracker {name} failed and is left alone, the run goes on: {_one_line(error)}"
                )


def _histogram(step: int, name: str, values: np.ndarray, _: str, tracker: Tracker) -> None:
    tracker.histogram(step, name, values)


def _one_line(error: Exception) -> str:
    # Tools write paragraphs, and some of them the whole of what they were sent.
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
