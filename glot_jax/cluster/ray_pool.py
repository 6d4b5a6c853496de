"""Actors of Ray as the workers of a queue. The only module that imports ray.

Ray's own restarts and retries are off. An actor whose node died would hold its item for ever with
them; the queue gives the item to another one at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Generator, Sequence
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar, cast

from glot_jax.cluster.work_queue import Done, Failed, Joined, Limits, Lost, never_ready
from glot_jax.config.machines import RayChoice
from glot_jax.errors import UsageError, missing_extra, require_extra

Facts = TypeVar("Facts", bound="Comparable", covariant=True)
Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
Known = TypeVar("Known", bound="Comparable")
Given = TypeVar("Given")
Made = TypeVar("Made")

_CPUS = 4.0
_CONNECT_SECONDS = 10.0
_MISSING = ("ModuleNotFoundError", "failed to import")
"""What Ray says where a node does not have this package."""


class Comparable(Protocol):
    """What actors tell of themselves."""

    def differences(self, other: Any, /) -> Sequence[str]:  # noqa: ANN401 - of the same kind
        """What must be equal and is not, a line each."""
        ...


class Workman(Protocol[Facts, Item, Result]):
    """What an actor does; made in its own process, where it loads whatever it needs."""

    def facts(self) -> Facts:
        """What the driver and the other actors are to know of it."""
        ...

    def do(self, item: Item, /) -> Result:
        """One item's work."""
        ...


@dataclasses.dataclass(frozen=True)
class Room:
    """What a cluster has, and what an actor of it is given."""

    address: str
    """Its head, for people."""
    is_local: bool
    """Started for this command, on this machine."""
    nodes: int
    cpus: float
    gpus: float
    actor_cpus: float
    actor_gpus: float
    actors: int
    """How many to keep at work."""

    def describe(self) -> str:
        """A line for the user."""
        where = "Ray on this machine" if self.is_local else f"Ray cluster at {self.address}"
        has = (
            f"{_count(self.nodes, 'node')}, {_count(self.cpus, 'CPU')}, {_count(self.gpus, 'GPU')}"
        )
        gives = f"{_count(self.actors, 'actor')} of {_count(self.actor_cpus, 'CPU')}"
        if self.actor_gpus:
            gives += f" and {_count(self.actor_gpus, 'GPU')}"
        return f"{where} ({has}): {gives}"


@contextlib.contextmanager
def connected(
    choice: RayChoice,
    *,
    takes_gpus: bool,
) -> Generator[Room]:
    """Join a cluster, or start one, for the time of the block.

    Args:
        choice: the address, and what an actor is given; its `ray` is not None.
        takes_gpus: whether the work runs on a GPU where there is one.

    Raises:
        UsageError: no Ray, no cluster at the address, or one that can never hold an actor.
    """
    ray = _import_ray()
    # The caller has asked for Ray: without an address it is this machine.
    address = choice.ray or "local"
    options: dict[str, Any] = {}
    if address == "local":
        # Counted and not measured: more actors than cores are the caller's decision.
        wanted_cpus = (choice.actors or 1) * (choice.cpus_per_actor or 1.0)
        options["num_cpus"] = max(os.cpu_count() or 1, int(-(-wanted_cpus // 1)))
        options["include_dashboard"] = False
    else:
        _require_listening(address)
    try:
        ray.init(
            address=address,
            # Workers' lines would stand between ours; what they raise arrives by itself.
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            rule="there must be a Ray cluster to join",
            got=f"--ray {address} ({_first_line(error)})",
            fix="Start one (`ray start --head`), give HOST:PORT of its head, or --ray local.",
        ) from error
    try:
        yield _room(ray, choice, takes_gpus)
    finally:
        ray.shutdown()


def _import_ray() -> ModuleType:
    # Before the import. Whoever wants to be counted has set it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require_extra("ray", "--ray")
    import ray
    import ray.exceptions

    return ray


def _require_listening(address: str) -> None:
    """Raise UsageError where nobody listens: Ray itself would ask for minutes."""
    if address == "auto":
        return
    # From the right: an IPv6 address has colons of its own.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            rule="there must be a Ray cluster to join",
            got=f"--ray {address}, where nobody answers ({error})",
            fix="Give HOST:PORT of its head, as `ray start --head` has printed it.",
        ) from error


def _room(ray: ModuleType, choice: RayChoice, takes_gpus: bool) -> Room:
    # Ray lists those that have died as well.
    alive = [node for node in ray.nodes() if node["Alive"]]
    resources = ray.cluster_resources()
    cpus = resources.get("CPU", 0.0)
    gpus = resources.get("GPU", 0.0)
    largest = max((node["Resources"].get("CPU", 0.0) for node in alive), default=0.0)
    actor_gpus = choice.gpus_per_actor
    if actor_gpus is None:
        actor_gpus = 1.0 if takes_gpus and gpus else 0.0
    actor_cpus = choice.cpus_per_actor
    if actor_cpus is None:
        # A cluster without a node for work has none, and may get some.
        actor_cpus = min(_CPUS, largest) or _CPUS
    is_local = choice.ray == "local"
    room = Room(
        address=ray.get_runtime_context().gcs_address,
        is_local=is_local,
        nodes=len(alive),
        cpus=cpus,
        gpus=gpus,
        actor_cpus=actor_cpus,
        actor_gpus=actor_gpus,
        actors=choice.actors or _fitting(cpus, gpus, actor_cpus, actor_gpus),
    )
    # Elsewhere nodes may be on their way.
    if is_local and (actor_cpus > cpus or actor_gpus > gpus):
        raise UsageError(
            rule="this machine must have room for an actor",
            got=f"{_count(cpus, 'CPU')} and {_count(gpus, 'GPU')} for one of"
            f" {_count(actor_cpus, 'CPU')} and {_count(actor_gpus, 'GPU')}",
            fix="Lower --cpus-per-actor or --gpus-per-actor.",
        )
    return room


def _fitting(
    cpus: float,
    gpus: float,
    actor_cpus: float,
    actor_gpus: float,
) -> int:
    """How many actors the cluster has room for, and one at least."""
    # Each node holds whole actors; what is cut off here is at most one too many asked for.
    fitting = cpus // actor_cpus
    if actor_gpus:
        fitting = min(fitting, gpus // actor_gpus)
    return max(1, int(fitting))


@dataclasses.dataclass
class _Member:
    """An actor with what it was asked last."""

    handle: Any
    is_ready: bool = False


class RayPool(Generic[Known, Given, Made]):
    """Actors that do items; see `work_queue.Pool`.

        with connected(choice, takes_gpus=True) as room, RayPool(room, make) as pool:
            facts = pool.start(600.0)
            for item, result in run(items, pool, room.actors):
                ...

    Attributes:
        known: the facts of the first actor that was ready; `start` returns them.
        make: makes the workmen of actors that are still to come.
    """

    def __init__(
        self,
        room: Room,
        make: Callable[[], Workman[Known, Given, Made]],
        notice: Callable[[str], None],
    ):
        """Prepare, and ask for nothing yet.

        Args:
            room: of the cluster that is joined.
            make: makes an actor's workman, in the actor's process.
            notice: called with a line for the user when an actor is lost.
        """
        self._ray: Any = _import_ray()
        self._room = room
        self.make = make
        self._notice = notice
        self._members: dict[int, _Member] = {}
        # Ray's promise -> the actor that it is of.
        self._pending: dict[Any, int] = {}
        # Never used twice: what is late of a dead actor must not be taken for another's.
        self._next = 0
        # Asked for by `start`, before the queue asks for anybody.
        self._early: list[int] = []
        self._arrived: list[Joined | Done[Made] | Lost | Failed] = []
        self.known: Known | None = None

    def __enter__(self) -> RayPool[Known, Given, Made]:
        return self

    def __exit__(self, *_error: object) -> None:
        # They would live on with the driver, which may have other things to do.
        for member in self._members.values():
            self._ray.kill(member.handle)

    def start(self, seconds: float) -> Known:
        """Ask for every actor, and wait for the first.

        Args:
            seconds: to wait for it.

        Returns:
            Its facts.

        Raises:
            UsageError: there is none by then, all of them die before, or a workman cannot be made.
        """
        # Actor -> how many have died in its place.
        deaths: dict[int, int] = {}
        for _ in range(self._room.actors):
            number = self._ask()
            self._early.append(number)
            deaths[number] = 0
        # By counting waits: a machine that was asleep has waited for nothing.
        waited = 0.0
        while self.known is None:
            events = self._collect(1.0)
            waited += 0.0 if events else 1.0
            for event in events:
                # What one actor cannot load, no other one can.
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Lost):
                    self._replace(event, deaths)
                else:
                    self._arrived.append(event)
            if waited > seconds:
                raise UsageError(
                    rule="there must be an actor",
                    got=f"none for {seconds / 60:.0f} minutes; {self.outlook()}",
                    fix="See what the cluster has free, or give actors less: --gpus-per-actor,"
                    " --cpus-per-actor.",
                )
        return self.known

    def _replace(self, lost: Lost, deaths: dict[int, int]) -> None:
        """Ask for another actor in the place of one that died before any was ready.

        Raises:
            UsageError: too many have died, in every place.
        """
        self._early.remove(lost.worker)
        times = deaths.pop(lost.worker) + 1
        # As often as the queue puts up with it, which is not there yet.
        if times <= Limits.retries:
            number = self._ask()
            self._early.append(number)
            deaths[number] = times
        elif not self._early:
            raise never_ready(times, lost.reason)

    def outlook(self) -> str:
        """What there is, and what is asked for."""
        # Asked anew: nodes come and go.
        resources = self._ray.cluster_resources()
        free = self._ray.available_resources()
        parts = []
        for name in ("CPU", "GPU"):
            parts.append(f"{free.get(name, 0.0):g} of {resources.get(name, 0.0):g} {name}s free")
        room = self._room
        return (
            f"{', '.join(parts)}; an actor takes {room.actor_cpus:g} CPUs and"
            f" {room.actor_gpus:g} GPUs"
        )

    def spawn(self) -> int:
        """See `work_queue.Pool`."""
        # The queue asks for its workers after `start` has asked for them.
        if self._early:
            return self._early.pop(0)
        return self._ask()

    def _ask(self) -> int:
        number = self._next
        self._next += 1
        actor = self._ray.remote(_Actor).options(
            num_cpus=self._room.actor_cpus,
            num_gpus=self._room.actor_gpus,
            max_restarts=0,
            max_task_retries=0,
        )
        # By value: Ray tells apart whose classes it has seen by their module and name.
        handle = actor.remote(self.make)
        self._members[number] = _Member(handle)
        self._pending[handle.ready.remote()] = number
        return number

    def submit(
        self,
        worker: int,
        item: Given,
        /,
    ) -> None:
        """See `work_queue.Pool`."""
        handle = self._members[worker].handle
        self._pending[handle.do.remote(item)] = worker

    def wait(self, seconds: float) -> Sequence[Joined | Done[Made] | Lost | Failed]:
        """See `work_queue.Pool`."""
        # What came before the queue was there.
        if self._arrived:
            events = self._arrived
            self._arrived = []
            return events
        return self._collect(seconds)

    def _collect(self, seconds: float) -> list[Joined | Done[Made] | Lost | Failed]:
        if not self._pending:
            return []
        ready, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        return [self._event(promise) for promise in ready]

    def _event(self, promise: Any) -> Joined | Done[Made] | Lost | Failed:  # noqa: ANN401 - Ray's
        # A promise is answered once.
        worker = self._pending.pop(promise)
        member = self._members[worker]
        try:
            value = self._ray.get(promise)
        except self._ray.exceptions.RayTaskError as error:
            # What the code raised, without Ray's account of where.
            return Failed(worker, error.cause)
        except self._ray.exceptions.RayError as error:
            return self._lost(worker, error)
        if member.is_ready:
            return Done(worker, cast("Made", value))
        member.is_ready = True
        return self._joined(worker, value)

    def _joined(self, worker: int, facts: Known) -> Joined | Failed:
        if self.known is None:
            self.known = facts
            return Joined(worker)
        lines = self.known.differences(facts)
        if not lines:
            return Joined(worker)
        error = UsageError(
            rule="every actor must have the same packages and the same backbone",
            got="actors that differ (first -> another):\n  " + "\n  ".join(lines),
            fix="\nInstall the same versions on every node, and let each see the same files.",
        )
        return Failed(worker, error)

    def _lost(self, worker: int, error: Exception) -> Lost | Failed:
        member = self._members.pop(worker)
        # One that is only out of reach may come back, and would keep its GPU for nothing.
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(member.handle)
        text = str(error)
        if any(sign in text for sign in _MISSING):
            missing = missing_extra(
                "ray",
                "every node of the cluster",
                "glot_jax of this version and what it needs",
                _last_line(error),
            )
            return Failed(worker, missing)
        reason = _cause(error)
        self._notice(f"actor {worker} is lost ({reason})")
        return Lost(worker, reason)


class _Actor:
    """Runs in a process of its own, perhaps on another machine."""

    def __init__(self, make: Callable[[], Workman[Known, Given, Made]]):
        # Not yet: what is raised here reaches the driver as a dead actor.
        self._make = make
        self._workman: Any = None

    def ready(self) -> object:
        self._workman = self._make()
        return self._workman.facts()

    def do(self, item: object) -> object:
        return self._workman.do(item)


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def _cause(error: Exception) -> str:
    """Why an actor died, from Ray's account of a dozen lines: who it was, and its last words."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    parts = [line for line in lines if line.startswith(("pid:", "ip:"))]
    # The last line says most, and goes on with advice.
    sentence, _, _ = lines[-1].partition(". ")
    return ", ".join([*parts, sentence.rstrip(".")])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]
