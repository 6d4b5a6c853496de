"""The released module's state_dict and ours, both ways and without loss."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from types import EllipsisType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from glot_jax.errors import UsageError, lookup, missing_extra
from glot_jax.moved import renamed_keywords
from glot_jax.official.released_names import (
    EDGE_TERM,
    LAYERS,
    Shape,
    first_weight,
    released_names,
    type_of_layers,
)
from glot_jax.pooling import Glot, Mlp
from glot_jax.run_folders.tree_paths import tree_paths

_SAVE = "Save module.state_dict()."


class _Variable(Protocol):
    """The part of an nnx.Variable that is read and written here."""

    def __getitem__(self, key: EllipsisType, /) -> jax.Array: ...

    def __setitem__(self, key: EllipsisType, value: jax.Array, /) -> None: ...


@renamed_keywords(conv="gnn")
def load_official(
    state_dict_or_path: Mapping[str, Any] | str | PathLike[str],
    *,
    gnn: str,
    jk: str,
    tau: float,
) -> Glot:
    """The released module's parameters as our Glot, in evaluation mode.

    Every size is read from the arrays' shapes.

    Args:
        state_dict_or_path: name -> numpy array or tensor (float32; other widths are converted to
            it), or the path of a `.pth` file, which is read with PyTorch's `weights_only=True`: no
            code in it is run.
        gnn: GNN type: gat, gcn, gin, gine or sage.
        jk: jumping knowledge: cat, max, mean or none.
        tau: threshold of the graph it was trained with; kept as the module's attribute `tau`, for
            `token_graph`.

    Raises:
        UsageError: an unknown name, or a key that is missing, unexpected or of the wrong shape,
            named.
    """
    lookup(LAYERS, gnn, "GNN layer (gnn)")
    if not -1 <= tau <= 1:
        raise UsageError(
            rule="tau must be a cosine, in [-1, 1]",
            got=tau,
            fix="Give the one it was trained with.",
        )
    state_dict = _state_dict(state_dict_or_path)
    arrays: dict[str, np.ndarray] = {}
    for name, value in state_dict.items():
        arrays[name] = _array(name, value)
    depth = _depth(arrays)
    names = released_names(gnn, depth)
    _require_keys(arrays, set(names), f"a {gnn} module of {depth} layers")
    model = _empty(arrays, gnn, jk, depth)
    for official, (path, name) in names.items():
        variable = _variable_at(model, path)
        ours = variable[...]
        theirs = arrays[official]
        # What ours would look like there is what theirs must look like.
        shape = name.to_theirs(np.asarray(ours)).shape
        if theirs.shape != shape:
            raise UsageError(
                rule=f"{official} must have the shape {shape}",
                got=theirs.shape,
                fix="Are gnn and jk right?",
            )
        array = name.to_ours(theirs, ours.shape)
        variable[...] = jnp.asarray(array, ours.dtype)
    # A Glot takes a graph that is linked already: tau is only kept for whoever links it.
    model.tau = tau
    return model


def to_official(glot_or_gradient_tree: object) -> dict[str, np.ndarray]:
    """Our Glot under the released module's names and layouts.

    Its state or a gradient of the same structure will do as well. The inverse of `load_official`,
    bit for bit, BatchNorm's counter included; a gradient has no running statistics and gets no
    names for them. The type of the layers follows from the names of their arrays. The released GAT
    always has an edge term: a Glot without one gets a term of zeros, which changes nothing.

    Raises:
        UsageError: another pooler, or a Glot with parts that the released module lacks (residual,
            virtual node).
    """
    # An Mlp is a Glot by its class, and the release has no module that works for it.
    if isinstance(glot_or_gradient_tree, Mlp):
        raise UsageError(
            rule="only a Glot has the released module's names",
            got="an Mlp",
            fix="There is no file to write it to.",
        )
    tree = glot_or_gradient_tree
    if isinstance(tree, nnx.Module):
        tree = nnx.state(tree)
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in tree_paths(tree, ".").items():
        arrays[path] = np.asarray(leaf)
    gnn, depth = _layers_of(arrays)
    names = released_names(gnn, depth)
    known = {path for path, _ in names.values()}
    readout = {path for path in known if path.startswith("readout.")}
    if not (readout <= set(arrays) <= known):
        others = ", ".join(sorted(set(arrays) - known)) or "none, and no readout"
        raise UsageError(
            rule="a tree must have the parameters of the released module, and no others",
            got=f"others: {others}",
            fix="Pass a Glot without residual and virtual node, its state or its gradient.",
        )
    # Of a gradient nothing is added: a term that the Glot lacks has none.
    if isinstance(glot_or_gradient_tree, Glot) and gnn == "gat":
        _add_edge_term(arrays, depth)
    theirs: dict[str, np.ndarray] = {}
    for official, (path, name) in names.items():
        # A gradient lacks the buffers.
        if path in arrays:
            theirs[official] = name.to_theirs(arrays[path])
    return theirs


def _layers_of(arrays: Mapping[str, np.ndarray]) -> tuple[str, int]:
    """(GNN type, number of layers); a type without meaning where there are no layers."""
    prefix = "gnn.layers."
    numbers = {path.split(".")[2] for path in arrays if path.startswith(prefix)}
    first = f"{prefix}0."
    names = {path.removeprefix(first) for path in arrays if path.startswith(first)}
    gnn = type_of_layers(names)
    if gnn is None:
        # No layers, or none that the release has: then their arrays are told as the others.
        return "gcn", 0
    return gnn, len(numbers)


def _add_edge_term(arrays: dict[str, np.ndarray], depth: int) -> None:
    for k in range(depth):
        layer = f"gnn.layers.{k}"
        for name in EDGE_TERM:
            # Each of the term's vectors has the shape of the source's.
            zeros = np.zeros_like(arrays[f"{layer}.source"])
            arrays.setdefault(f"{layer}.{name}", zeros)


def _variable_at(model: Glot, path: str) -> _Variable:
    """The variable at a dotted path."""
    node: Any = model
    for part in path.split("."):
        # Digits are a place in a list of layers.
        if part.isdigit():
            node = node[int(part)]
        else:
            node = getattr(node, part)
    return node


def _depth(arrays: Mapping[str, np.ndarray]) -> int:
    """Number of layers, by the names of a state_dict."""
    numbers = set()
    for name in arrays:
        match = re.match(r"convs\.(\d+)\.", name)
        if match:
            numbers.add(match[1])
    return len(numbers)


def _require_keys(arrays: Mapping[str, np.ndarray], keys: set[str], module: str) -> None:
    # Missing keys first: a wrong type of layers has both.
    missing = keys - set(arrays)
    unexpected = set(arrays) - keys
    if missing:
        got = f"missing: {', '.join(sorted(missing))}"
    elif unexpected:
        got = f"unexpected: {', '.join(sorted(unexpected))}"
    else:
        return
    raise UsageError(
        rule=f"{module} must have the keys {', '.join(sorted(keys))}",
        got=got,
        fix="Is gnn the layer it was trained with?",
    )


def _empty(arrays: Mapping[str, np.ndarray], gnn: str, jk: str, depth: int) -> Glot:
    """A Glot of the sizes that the arrays have."""
    # The seed of nnx.Rngs decides nothing: every array is replaced.
    scorer_dim, width = _shape(arrays, "score_layer.0.weight", 2)
    if depth == 0:
        return Glot(
            width,
            num_layers=0,
            jk=jk,
            scorer_dim=scorer_dim,
            rngs=nnx.Rngs(0),
        )
    # Linear weights are [out, in] in PyTorch.
    hidden_dim, dim = _shape(arrays, f"convs.0.{first_weight(gnn)}", 2)
    heads = 1
    if gnn == "gat":
        # att_src is [1, heads, width of a head].
        _, heads, _ = _shape(arrays, "convs.0.att_src", 3)
    model = Glot(
        dim,
        hidden_dim,
        depth,
        gnn=gnn,
        jk=jk,
        heads=heads,
        edge_term=gnn == "gat",
        scorer_dim=scorer_dim,
        rngs=nnx.Rngs(0),
    )
    # The one thing that tells of a wrong jk: cat is wider than the other three.
    if model.pooled_dim != width:
        raise UsageError(
            rule=f"with jk {jk!r} the readout must take tokens of width {model.pooled_dim}",
            got=width,
            fix="Is jk the one it was trained with?",
        )
    return model


def _shape(
    arrays: Mapping[str, np.ndarray],
    name: str,
    axes: int,
) -> Shape:
    shape = arrays[name].shape
    # Sizes are read from it before it is compared, and a size of 0 would fail inside the Glot.
    if len(shape) != axes or min(shape) == 0:
        raise UsageError(
            rule=f"{name} must have {axes} axes, none of them empty",
            got=shape,
            fix="Is it the released module's?",
        )
    return shape


def _array(name: object, value: object) -> np.ndarray:
    """A tensor, parameter or array as numpy; bfloat16, which numpy lacks, widened.

    Counters are integers, all else floats.
    """
    if not isinstance(name, str):
        raise UsageError(
            rule="the keys of a state_dict must be names",
            got=repr(name),
            fix=_SAVE,
        )
    tensor: Any = value
    # A tensor, without importing torch for a mapping of arrays.
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if "bfloat16" in str(tensor.dtype):
            tensor = tensor.float()
    try:
        array = np.asarray(tensor)
    except ValueError as error:
        raise UsageError(
            rule="the values of a state_dict must be arrays",
            got=f"{name}: {error}",
            fix=_SAVE,
        ) from error
    kind = "f"
    if name.endswith("num_batches_tracked"):
        kind = "i"
    if array.dtype.kind != kind:
        raise UsageError(
            rule="weights must be floats and counters integers",
            got=f"{name} of {array.dtype}",
            fix=_SAVE,
        )
    return array


def _state_dict(source: Mapping[str, Any] | str | PathLike[str]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    rule = "a .pth file must hold a state_dict of tensors"
    try:
        import torch

        # weights_only: unpickling a stranger's file would run its code.
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise missing_extra("extract", "a .pth file", "torch", error) from error
    except Exception as error:  # torch raises whatever the damaged file provokes
        raise UsageError(
            rule=rule,
            got=f"{source}: {error}",
            fix="Save it with torch.save(module.state_dict(), FILE).",
        ) from error
    if not isinstance(loaded, Mapping):
        raise UsageError(rule=rule, got=f"{source}, a {type(loaded).__name__}", fix=_SAVE)
    return loaded
