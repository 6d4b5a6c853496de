"""What the runs of one process share: token states that are placed already, and compiled steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from glot_jax.batches.placement import States, place_states
from glot_jax.mesh.device_mesh import ONE, Mesh
from glot_jax.store.reader import HiddenStore
from glot_jax.training.steps import Steps


class Workspace:
    """Runs that follow one another pass the same workspace: seeds, trials, variants.

    Equal states are then placed once and equal programs compiled once.

    Args:
        mesh: the devices that they are placed on and compiled for.
    """

    def __init__(self, mesh: Mesh = ONE) -> None:
        self.mesh = mesh
        self._states: dict[tuple, States] = {}
        self._steps: dict[str, Steps] = {}
        self._said: set[str] = set()

    @classmethod
    def shared(cls, workspace: Workspace | dict[Any, Any] | None) -> Workspace:
        """The workspace itself, or a new one where there is none.

        A dict is what version 0.1 took for one: calls that pass the same dict share its workspace.
        """
        if isinstance(workspace, dict):
            return workspace.setdefault("workspace", cls())
        return cls() if workspace is None else workspace

    @property
    def programs(self) -> int:
        """How many programs are compiled."""
        return len(self._steps)

    def unsaid(self, lines: Sequence[str]) -> list[str]:
        """Those of some lines about the machine that no run before has printed."""
        fresh = [line for line in lines if line not in self._said]
        self._said.update(fresh)
        return fresh

    def states(self, store: HiddenStore, split: str, cache: str) -> States:
        """Token states of a stored split, placed where `--cache` says."""
        reader = store[split]
        # The token's shape tells one layer from one that is read as the only one of several.
        key = (store.content, store.layers, reader.token_shape, split, cache)
        if key not in self._states:
            self._states[key] = place_states(reader, cache, self.mesh)
        return self._states[key]

    def steps(
        self,
        program: str,
        build: Callable[[], Steps],
    ) -> Steps:
        """The compiled steps of a program.

        Args:
            program: equal for runs that differ by nothing that is compiled.
            build: makes the steps of a program that is new here.
        """
        if program not in self._steps:
            self._steps[program] = build()
        return self._steps[program]

    def clear_states(self) -> None:
        """Let go of all token states, for a process that goes on with another store."""
        # Compiled steps hold no states: they stay, and cost little.
        self._states.clear()
