"""A model's blocks, found by watching it run.

They tell what `hidden_states` should hold, and are a way to it where it does not.

Layer 0 is what the first block reads, layer k what block k writes, the last layer what the model
returns, after its final norm. Most models' `hidden_states` are just that. Some lists are shifted by
a block, hold other tensors, or are not there at all; the blocks themselves are then listened to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, TypeGuard

import torch

Call = tuple[torch.nn.Module, "torch.Tensor | None", "torch.Tensor | None"]
"""A module, the states that it read, and those that it wrote."""
Outputs = Any
"""What a model returns: `last_hidden_state` [batch, length, dim], and perhaps `hidden_states`.

Each architecture has a class of its own for it.
"""
Hook = Callable[..., None]
"""Called by torch after a module has run, with what it read and what it wrote."""
Step = tuple[torch.Tensor, torch.Tensor]
"""The states that a block read and wrote, [1, length, dim]."""
LAST = "last_hidden_state, after the final norm"


@dataclasses.dataclass(frozen=True)
class BlockList:
    """The blocks of a model, in the order in which it calls them.

    Attributes:
        path: name of the torch.nn.ModuleList that holds them, for messages.
        modules: one per entry; a shared block is called more often than it stands there.
        calls: how often one pass calls them, which is the number of blocks L.
    """

    path: str
    modules: tuple[torch.nn.Module, ...]
    calls: int


@dataclasses.dataclass(frozen=True)
class LayerMap:
    """Where the states of layers 0 .. L come from.

    Attributes:
        sources: the source of each layer in words, as recipes name it.
        widths: last dimension of each layer; None where a layer's states are not one per token.
        blocks: the modules to listen to; None where `hidden_states` is right, or no blocks were
            found.
        verified: whether `hidden_states` was compared with the blocks.
        verified_blocks: the blocks that `hidden_states` agrees with, bit by bit: a pass that needs
            no last layer may read them instead, and end at the last one that it needs.
    """

    sources: tuple[str, ...]
    widths: tuple[int | None, ...]
    blocks: BlockList | None
    verified: bool
    verified_blocks: BlockList | None = None


def map_layers(model: torch.nn.Module, run: Callable[[], Outputs]) -> tuple[LayerMap, Outputs]:
    """Run a model once and find out where its layers are.

    Args:
        model: any transformer.
        run: one pass over a single unpadded text; returns the model's outputs with
            `last_hidden_state` [1, length, dim] and, if the model has them, `hidden_states`.

    Returns:
        The map, and what `run` returned.
    """
    with _recorded(model) as calls:
        outputs = run()
    last = outputs.last_hidden_state
    # Everything below compares tensors bit for bit: in one pass they are the same tensors or not.
    # A few models return a tuple of tuples here, or nothing.
    hidden = getattr(outputs, "hidden_states", None) or ()
    listed = [states for states in hidden if isinstance(states, torch.Tensor)]
    length = last.shape[1]
    blocks, steps = _choose(calls, length, len(listed) - 1)
    if blocks is None or (listed and blocks.calls != len(listed) - 1):
        return _as_listed(listed, last, verified=False), outputs
    if _agree(listed, steps):
        checked = _as_listed(listed, last, verified=True)
        return dataclasses.replace(checked, verified_blocks=blocks), outputs
    return _at_blocks(blocks, steps, last), outputs


class BlockStates:
    """Takes the states of some layers from the blocks while the model runs.

    with BlockStates(blocks, [3]) as states:
        model(...)
    states.layers[3]  # [batch, length, dim], what block 3 wrote
    """

    def __init__(self, blocks: BlockList, layers: Sequence[int], *, stop: bool = False):
        """Prepare to listen.

        Args:
            blocks: of `map_layers`.
            layers: whose states to keep, in 0 .. L - 1.
            stop: end the pass behind the last of them; the block leaves it by an exception, which
                ends with the `with`.
        """
        self._blocks = blocks
        self._kept = set(layers)
        self._last = max(layers) if stop else None
        self._calls = 0
        self._hooks = ExitStack()
        self.layers: dict[int, torch.Tensor] = {}

    def __enter__(self) -> BlockStates:
        for module in dict.fromkeys(self._blocks.modules):
            handle = module.register_forward_hook(self._listen, with_kwargs=True)
            self._hooks.callback(handle.remove)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._hooks.close()
        # Everything that was asked for is there.
        return kind is _Reached

    def _listen(
        self,
        _module: torch.nn.Module,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        output: object,
    ) -> None:
        if self._calls == 0 and 0 in self._kept:
            states = _first_states([*args, *kwargs.values()])
            if states is not None:
                self.layers[0] = states.clone()
            if self._last == 0:
                raise _Reached
        self._calls += 1
        # Counted by calls: a model may call one shared block many times.
        if self._calls in self._kept:
            states = _first_states([output])
            if states is not None:
                # What follows may add to it in place.
                self.layers[self._calls] = states.clone()
        if self._calls == self._last:
            raise _Reached


class _Reached(Exception):
    """The last block that is needed has run; no later one is, nor the final norm."""


@contextmanager
def _recorded(model: torch.nn.Module) -> Iterator[dict[str, list[Call]]]:
    """Record, for every ModuleList, the calls of its entries in order."""
    calls: dict[str, list[Call]] = {}
    with ExitStack() as hooks:
        for path, modules in model.named_modules():
            if not isinstance(modules, torch.nn.ModuleList):
                continue
            # An entry that stands in the list twice is hooked once: a hook hears every call.
            for module in dict.fromkeys(modules):
                hook = _recorder(calls.setdefault(path, []))
                handle = module.register_forward_hook(hook, with_kwargs=True)
                hooks.callback(handle.remove)
        yield calls


def _recorder(calls: list[Call]) -> Hook:
    def record(
        module: torch.nn.Module,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        output: object,
    ) -> None:
        read = _first_states([*args, *kwargs.values()])
        wrote = _first_states([output])
        calls.append((module, _copy(read), _copy(wrote)))

    return record


def _copy(states: torch.Tensor | None) -> torch.Tensor | None:
    # Some models add to their states in place.
    return None if states is None else states.clone()


def _first_states(values: Sequence[object]) -> torch.Tensor | None:
    """The first tensor of floats [batch, length, width] among some values.

    The first entry of a tuple, list or dict counts as well.
    """
    for value in values:
        if _is_states(value):
            return value
        if isinstance(value, Mapping):
            entries = list(value.values())
        elif isinstance(value, tuple | list):
            entries = list(value)
        else:
            continue
        # Only the first value that holds a tensor is asked: what follows are masks and caches.
        if entries and isinstance(entries[0], torch.Tensor):
            return entries[0] if _is_states(entries[0]) else None
    return None


def _is_states(value: object) -> TypeGuard[torch.Tensor]:
    if not isinstance(value, torch.Tensor):
        return False
    return value.ndim == 3 and value.is_floating_point()


def _choose(
    calls: Mapping[str, list[Call]],
    length: int,
    expected: int,
) -> tuple[BlockList | None, list[Step]]:
    """The list whose entries hand their states on to one another, one per token.

    Args:
        calls: of every ModuleList, outermost first.
        length: tokens of the text.
        expected: number of blocks by `hidden_states`; a list with as many calls comes first, then
            the one with the most calls, then the outermost.

    Returns:
        The blocks, None without any, and what each of them read and wrote.
    """
    best: BlockList | None = None
    best_steps: list[Step] = []
    best_rank = (False, 0)
    for path, made in calls.items():
        steps = _steps(made, length)
        rank = (len(steps) == expected, len(steps))
        if steps and (best is None or rank > best_rank):
            modules = tuple(module for module, _, _ in made)
            best = BlockList(path, modules, len(steps))
            best_steps = steps
            best_rank = rank
    return best, best_steps


def _steps(calls: Sequence[Call], length: int) -> list[Step]:
    """What each call read and wrote; nothing unless every call reads what the one before wrote."""
    steps: list[Step] = []
    for _, read, wrote in calls:
        if read is None or wrote is None:
            return []
        # One state per token, in and out: a list of experts or of attention heads has others.
        if read.shape[:2] != (1, length) or wrote.shape[:2] != (1, length):
            return []
        if steps and not _same(steps[-1][1], read):
            return []
        steps.append((read, wrote))
    return steps


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.shape != second.shape:
        return False
    # Of a model that is spread over devices they may lie on two.
    return torch.equal(first, second.to(first.device))


def _agree(listed: Sequence[torch.Tensor], steps: Sequence[Step]) -> bool:
    """Whether `hidden_states` holds the first block's input and every block's output.

    The last entry is not compared: it is what the model returns, after its final norm.
    """
    if len(listed) != len(steps) + 1:
        return False
    first_input, _ = steps[0]
    if not _same(listed[0], first_input):
        return False
    inner = listed[1:-1]
    outputs = zip(inner, steps[:-1], strict=True)
    return all(_same(states, wrote) for states, (_, wrote) in outputs)


def _as_listed(
    listed: Sequence[torch.Tensor],
    last: torch.Tensor,
    *,
    verified: bool,
) -> LayerMap:
    """The map of a model whose `hidden_states` are taken as they are."""
    inner: list[int | None] = []
    for states in listed[:-1]:
        if states.ndim == 3 and states.shape[:2] == last.shape[:2]:
            inner.append(states.shape[-1])
        else:
            inner.append(None)
    # Some models keep several streams of states between their blocks, [batch, length, streams,
    # dim], others shorten the text on the way: what they list is then no state a token, and its
    # numbers are not those of blocks.
    if None in inner:
        inner = [None] * len(inner)
    sources = [f"hidden_states[{layer}]" for layer in range(len(inner))]
    return LayerMap(
        sources=(*sources, LAST),
        widths=(*inner, last.shape[-1]),
        blocks=None,
        verified=verified,
    )


def _at_blocks(
    blocks: BlockList,
    steps: Sequence[Step],
    last: torch.Tensor,
) -> LayerMap:
    """The map of a model whose inner layers are read at its blocks."""
    outputs = [f"output of block {number}" for number in range(1, blocks.calls)]
    first_input, _ = steps[0]
    widths = [first_input.shape[-1]]
    for _, wrote in steps[:-1]:
        widths.append(wrote.shape[-1])
    return LayerMap(
        sources=("input of block 1", *outputs, LAST),
        widths=(*widths, last.shape[-1]),
        blocks=blocks,
        verified=True,
    )
