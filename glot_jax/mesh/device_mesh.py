"""The devices that train one run: where arrays are placed, and how rows are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import PyTree

from glot_jax.mesh.processes import ALONE, Processes

Tree = TypeVar("Tree")
Device = Any
"""A jax.Device, which is no type to a type checker."""

AXIS = "data"
"""The one axis of a mesh: the rows of a batch are divided along it."""


class Mesh:
    """The devices of a run. Each has the whole model and a share of the rows of every batch.

    Shares follow one another in the order of the devices, those of a process side by side. With
    one device every method is the identity, or what JAX does by itself: nothing is placed.

    Args:
        devices: of all processes, as many of each; default: the one that JAX takes.
        processes: that hold them.

    Attributes:
        count: how many devices there are.
    """

    def __init__(self, devices: Sequence[Device] = (), processes: Processes = ALONE):
        self.processes = processes
        self.count = max(1, len(devices))
        self._platform = devices[0].platform if devices else ""
        self._mesh: jax.sharding.Mesh | None = None
        if self.count > 1:
            # Auto: shardings follow from those of a step's arguments, and no layer names any.
            self._mesh = jax.sharding.Mesh(
                np.array(devices),
                (AXIS,),
                axis_types=(AxisType.Auto,),
            )

    @property
    def several(self) -> bool:
        """Whether there is more than one device."""
        return self.count > 1

    @property
    def local_count(self) -> int:
        """Devices of this process."""
        return self.count // self.processes.count

    @property
    def copies(self) -> int:
        """How often what all devices have lies in this process's memory."""
        # The devices of a CPU share it.
        return self.local_count if self._platform == "cpu" else 1

    def own(self, count: int) -> slice:
        """This process's share of an axis of `count` entries, a multiple of the devices."""
        share = count // self.processes.count
        begin = share * self.processes.number
        return slice(begin, begin + share)

    # ------------------------------------------------------------------------------------- Placing

    def place_rows(self, tree: Tree) -> Tree:
        """The rows of a batch on the devices.

        Args:
            tree: arrays of which this process holds its share (`own`) of the first axis.
        """
        if not self.several:
            return jax.device_put(tree)
        return jax.tree.map(self._rows_of_share, tree)

    def place_whole(self, tree: Tree, axis: int) -> Tree:
        """Arrays that every process holds as a whole, divided along an axis."""
        if not self.several:
            return jax.device_put(tree)
        sharding = self._sharding(axis)

        def put(leaf: ArrayLike) -> jax.Array:
            return self._put(leaf, sharding)

        return jax.tree.map(put, tree)

    def place_everywhere(self, tree: PyTree[np.ndarray]) -> PyTree[jax.Array]:
        """Arrays of the host that every process holds as a whole, on each device."""
        if not self.several:
            return jax.tree.map(jnp.asarray, tree)
        return self.everywhere(tree)

    def everywhere(self, tree: Tree) -> Tree:
        """Arrays that every process holds as a whole, on each device; one device: as they are."""
        if not self.several:
            return tree
        sharding = self._sharding(None)

        def put(leaf: ArrayLike) -> jax.Array:
            return self._put(leaf, sharding)

        return jax.tree.map(put, tree)

    def from_first(self, tree: Tree) -> Tree:
        """`everywhere`, with the numbers of process 0, whatever the others have computed."""
        if not self.processes.several:
            return self.everywhere(tree)
        from jax.experimental import multihost_utils

        numbers = jax.tree.map(_numbers_of, tree)
        # On the hosts first: each then puts the same on its own devices.
        received = multihost_utils.broadcast_one_to_all(numbers)
        shared = self.everywhere(received)
        return jax.tree.map(_like, tree, shared)

    def described(self, tree: Tree, axis: int | None = None) -> Tree:
        """Shapes and dtypes of arrays that lie here as `place_whole` or `everywhere` puts them."""
        sharding = None
        if self.several:
            sharding = self._sharding(axis)

        def describe(leaf: jax.Array) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(describe, tree)

    # ------------------------------------------------------------------------------------- Running

    @property
    def jit_options(self) -> dict[str, Any]:
        """Options of jax.jit by which all that a program returns lies on every device."""
        # So that each process can read it, and that the next step finds the state where it was.
        if not self.several:
            return {}
        return {"out_shardings": self._sharding(None)}

    def settle(self, result: jax.Array | Mapping[str, jax.Array]) -> None:
        """Wait for a result where programs must not pile up."""
        # Devices of a CPU wait for one another in threads that they share: with some dozens of
        # programs under way none of them gets on.
        if self.several and self._platform == "cpu":
            jax.block_until_ready(result)

    def _sharding(self, axis: int | None) -> NamedSharding:
        assert self._mesh is not None  # asked of several devices alone
        if axis is None:
            return NamedSharding(self._mesh, PartitionSpec())
        before = [None] * axis
        return NamedSharding(self._mesh, PartitionSpec(*before, AXIS))

    def _put(self, leaf: ArrayLike, sharding: NamedSharding) -> jax.Array:
        if not self.processes.several:
            return jax.device_put(leaf, sharding)
        # JAX's own transfer would compare the values of all processes, a collective each time.
        values = np.asarray(leaf)

        def part_at(index: tuple[slice, ...] | None) -> np.ndarray:
            return values[index]

        return jax.make_array_from_callback(
            values.shape,
            sharding,
            part_at,
        )

    def _rows_of_share(self, leaf: ArrayLike) -> jax.Array:
        sharding = self._sharding(0)
        if not self.processes.several:
            return jax.device_put(leaf, sharding)
        values = np.asarray(leaf)
        rows = len(values) * self.processes.count
        begin = self.own(rows).start

        def rows_at(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # of an array that has an axis
            # Counted in the whole batch, of which this process has a part.
            asked = index[0]
            first = asked.start - begin
            last = asked.stop - begin
            return values[first:last]

        shape = (rows, *values.shape[1:])
        return jax.make_array_from_callback(
            shape,
            sharding,
            rows_at,
        )


ONE = Mesh()
"""The device that JAX takes by itself."""


def _is_key(leaf: jax.Array) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers_of(leaf: jax.Array) -> np.ndarray:
    # Keys have numbers that JAX hands out by this name alone.
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _like(leaf: jax.Array, numbers: jax.Array) -> jax.Array:
    if not _is_key(leaf):
        return numbers
    kind = jax.random.key_impl(leaf)
    return jax.random.wrap_key_data(numbers, impl=kind)
