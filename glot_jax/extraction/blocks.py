"""A model's blocks, found by watching it run: what `hidden_states` should hold, and a way to it
where it does not.

Layer 0 is what the first block reads, layer k what block k writes, the last layer what the model
returns, after its final norm. Most models' `hidden_states` are just that. Some lists are shifted by
a block, hold other tensors, or are not there at all; the blocks themselves are then listened to.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

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
        sources: of layer k its source in words, as recipes name it.
        widths: last dimension of each layer; None where a layer's states are not one per token.
        blocks: the modules to listen to; None where `hidden_states` is right, or no blocks were
            found.
        verified: whether `hidden_states` was compared with the blocks.
    """

    sources: tuple[str, ...]
    widths: tuple[int | None, ...]
    blocks: BlockList | None
    verified: bool


def map_layers(model: torch.nn.Module, run: Callable[[], Any]) -> tuple[LayerMap, Any]:
    """Run the model once and find out where its layers are.

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
    # A few models return a tuple of tuples here, or nothing.
    given = getattr(outputs, "hidden_states", None)
    listed = [states for states in given or () if isinstance(states, torch.Tensor)]
    blocks, record = _choose(calls, last.shape[1], len(listed) - 1)
    if blocks is None or (listed and blocks.calls != len(listed) - 1):
        return _as_listed(listed, last, None, verified=False), outputs
    if _agree(listed, record):
        return _as_listed(listed, last, None, verified=True), outputs
    inputs = [
        "input of block 1",
        *(f"output of block {number}" for number in range(1, blocks.calls)),
    ]
    widths = [
        record[0][0].shape[-1],
        *(output.shape[-1] for _, output in record[:-1]),
        last.shape[-1],
    ]
    return LayerMap((*inputs, LAST), tuple(widths), blocks, verified=True), outputs


class BlockStates:
    """The states of some layers, taken from the blocks while the model runs.

        with BlockStates(blocks, layers) as states:
            model(...)
        states.layers[3]                               # [batch, length, dim], what block 3 wrote

    Args:
        blocks: of `map_layers`.
        layers: those wanted, 0 .. L - 1.
    """

    def __init__(self, blocks: BlockList, layers: Sequence[int]):
        self._blocks = blocks
        self._wanted = set(layers)
        self._calls = 0
        self._hooks = ExitStack()
        self.layers: dict[int, torch.Tensor] = {}

    def __enter__(self) -> BlockStates:
        for module in dict.fromkeys(self._blocks.modules):
            handle = module.register_forward_hook(self._listen, with_kwargs=True)
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _listen(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        if self._calls == 0 and 0 in self._wanted:
            states = _first_states([*args, *kwargs.values()])
            if states is not None:
                self.layers[0] = states
        self._calls += 1
        if self._calls in self._wanted:
            states = _first_states([output])
            if states is not None:
                self.layers[self._calls] = states


@contextmanager
def _recorded(model: torch.nn.Module) -> Iterator[dict[str, list[tuple[Any, Any, Any]]]]:
    """Of every ModuleList the calls of its entries: (module, what it read, what it wrote), in
    order.
    """
    calls: dict[str, list[tuple[Any, Any, Any]]] = {}
    with ExitStack() as hooks:
        for path, modules in model.named_modules():
            if isinstance(modules, torch.nn.ModuleList):
                for module in dict.fromkeys(modules):
                    hook = _recorder(calls.setdefault(path, []))
                    handle = module.register_forward_hook(hook, with_kwargs=True)
                    hooks.callback(handle.remove)
        yield calls


def _recorder(calls: list[tuple[Any, Any, Any]]) -> Callable[..., None]:
    def record(
        module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        read = _first_states([*args, *kwargs.values()])
        wrote = _first_states([output])
        # Cloned: some models add to their states in place.
        calls.append(
            (
                module,
                None if read is None else read.clone(),
                None if wrote is None else wrote.clone(),
            )
        )

    return record


def _first_states(values: Sequence[Any]) -> torch.Tensor | None:
    """The first tensor of floats [batch, length, width] among some values, or the first entry of a
    tuple or dict.
    """
    for value in values:
        if isinstance(value, torch.Tensor) and value.ndim == 3 and value.is_floating_point():
            return value
        if isinstance(value, tuple | list | Mapping) and len(value):
            inner = next(iter(value.values())) if isinstance(value, Mapping) else value[0]
            if isinstance(inner, torch.Tensor):
                return _first_states([inner])
    return None


def _choose(
    calls: Mapping[str, list[tuple[Any, Any, Any]]], length: int, expected: int
) -> tuple[BlockList | None, list[tuple[torch.Tensor, torch.Tensor]]]:
    """The list whose entries hand their states on to one another, one per token, in the most steps.

    Of equally long ones the one with as many calls as there are hidden states, then the outermost.
    """
    best: tuple[tuple[bool, int], BlockList, list[tuple[torch.Tensor, torch.Tensor]]] | None = None
    for path, made in calls.items():
        record = [(read, wrote) for _, read, wrote in made]
        if not record or not all(_per_token(pair, length) for pair in record):
            continue
        steps = itertools.pairwise(record)
        if not all(_same(wrote, read) for (_, wrote), (read, _) in steps):
            continue
        rank = (len(record) == expected, len(record))
        if best is None or rank > best[0]:
            modules = tuple(module for module, _, _ in made)
            best = rank, BlockList(path, modules, len(record)), record
    if best is None:
        return None, []
    return best[1], best[2]


def _per_token(pair: tuple[Any, Any], length: int) -> bool:
    read, wrote = pair
    if read is None or wrote is None:
        return False
    return read.shape[:2] == wrote.shape[:2] == (1, length)


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def _agree(
    listed: Sequence[torch.Tensor], record: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> bool:
    """Whether `hidden_states` holds the first block's input and every block's output but the
    last's.
    """
    if len(listed) != len(record) + 1:
        return False
    expected = [record[0][0], *(wrote for _, wrote in record[:-1])]
    return all(_same(given, right) for given, right in zip(listed, expected, strict=False))


def _as_listed(
    listed: Sequence[torch.Tensor], last: torch.Tensor, blocks: BlockList | None, *, verified: bool
) -> LayerMap:
    inner: list[int | None] = [states.shape[-1] for states in listed[:-1]]
    # Some models keep several streams of states between their blocks, [batch, length, streams,
    # dim], others shorten the text on the way: what they list is then no state a token, and its
    # numbers are not those of blocks.
    if any(states.ndim != 3 or states.shape[:2] != last.shape[:2] for states in listed[:-1]):
        inner = [None] * len(inner)
    sources = [f"hidden_states[{layer}]" for layer in range(len(inner))]
    return LayerMap((*sources, LAST), (*inner, last.shape[-1]), blocks, verified)
