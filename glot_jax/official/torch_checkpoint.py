"""The released module's state_dict and ours, both ways and without loss.

Names on the left are those of PyTorch Geometric inside the released pooling module: `convs.<k>.`
before a layer's own names, `score_layer.0` and `score_layer.2` for the readout. Linear weights are
[out, in] there and [in, out] here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from glot_jax.errors import UsageError, lookup, missing_extra, require
from glot_jax.pooling import Glot, Mlp

Shape = tuple[int, ...]


class _Name(NamedTuple):
    """How one of our arrays is called and laid out in the released module."""

    official: str
    to_ours: Callable[[np.ndarray, Shape], np.ndarray] = lambda array, shape: array.reshape(shape)
    to_theirs: Callable[[np.ndarray], np.ndarray] = lambda array: array


def _weight(official: str) -> _Name:
    return _Name(official, lambda array, shape: array.T, lambda array: array.T)


def _shaped(official: str, *shape: int) -> _Name:
    """Reshaped to `shape` there, of which one size may be -1."""
    return _Name(official, to_theirs=lambda array: array.reshape(shape))


def _attention(official: str) -> _Name:
    return _Name(official, to_theirs=lambda array: array[None])


_GIN = {
    "epsilon": _Name("eps"),
    "kernel": _weight("nn.lins.0.weight"),
    "bias": _Name("nn.lins.0.bias"),
    "out_kernel": _weight("nn.lins.1.weight"),
    "out_bias": _Name("nn.lins.1.bias"),
    "norm.scale": _Name("nn.norms.0.module.weight"),
    "norm.bias": _Name("nn.norms.0.module.bias"),
    "norm.mean": _Name("nn.norms.0.module.running_mean"),
    "norm.var": _Name("nn.norms.0.module.running_var"),
    "norm.batches": _Name(
        "nn.norms.0.module.num_batches_tracked", to_theirs=lambda array: array.astype(np.int64)
    ),
}
LAYERS: dict[str, dict[str, _Name]] = {
    "gat": {
        "kernel": _weight("lin.weight"),
        "source": _attention("att_src"),
        "target": _attention("att_dst"),
        "edge": _attention("att_edge"),
        "edge_kernel": _shaped("lin_edge.weight", -1, 1),
        "bias": _Name("bias"),
    },
    "gcn": {"kernel": _weight("lin.weight"), "bias": _Name("bias")},
    "gin": _GIN,
    "gine": {**_GIN, "edge_kernel": _shaped("lin.weight", -1, 1), "edge_bias": _Name("lin.bias")},
    "sage": {
        "mean_kernel": _weight("lin_l.weight"),
        "bias": _Name("lin_l.bias"),
        "root_kernel": _weight("lin_r.weight"),
    },
}
READOUT = {
    "kernel": _weight("score_layer.0.weight"),
    "bias": _Name("score_layer.0.bias"),
    "vector": _shaped("score_layer.2.weight", 1, -1),
    "vector_bias": _shaped("score_layer.2.bias", 1),
}


def load_official(
    state_dict_or_path: Mapping[str, Any] | str | PathLike[str], *, conv: str, jk: str, tau: float
) -> Glot:
    """The released module's parameters as our Glot, in evaluation mode; every size is read from the
    arrays' shapes.

    Args:
        state_dict_or_path: name -> numpy array or tensor (float32; other widths are converted to
            it), or the path of a `.pth` file, which is read with PyTorch's `weights_only=True`: no
            code in it is run.
        conv: GNN type: gat, gcn, gin, gine or sage.
        jk: jumping knowledge: cat, max, mean or none.
        tau: threshold of the graph it was trained with; kept as the module's attribute `tau`, for
            `token_graph`.

    Raises:
        UsageError: an unknown name, or a key that is missing, unexpected or of the wrong shape,
            named.
    """
    lookup(LAYERS, conv, "GNN layer (conv)")
    require(
        -1 <= tau <= 1, "tau must be a cosine, in [-1, 1]", tau, "Give the one it was trained with."
    )
    arrays = {name: _array(name, value) for name, value in _state_dict(state_dict_or_path).items()}
    depth = len({match[1] for name in arrays if (match := re.match(r"convs\.(\d+)\.", name))})
    names = _names(conv, depth)
    for problem, keys in (
        ("missing", names.keys() - arrays.keys()),
        ("unexpected", arrays.keys() - names.keys()),
    ):
        rule = f"a {conv} module of {depth} layers has the keys {', '.join(names)}"
        require(
            not keys,
            rule,
            f"{problem}: {', '.join(sorted(keys))}",
            "Is conv the layer it was trained with?",
        )
    model = _empty(arrays, conv, jk, depth)
    for official, (path, name) in names.items():
        variable = _at(model, path)
        wanted = name.to_theirs(np.asarray(variable[...])).shape
        require(
            arrays[official].shape == wanted,
            f"{official} has the shape {wanted}",
            arrays[official].shape,
            "Are conv and jk right?",
        )
        variable[...] = jnp.asarray(
            name.to_ours(arrays[official], variable[...].shape), variable[...].dtype
        )
    model.tau = tau
    return model


def to_official(glot_or_gradient_tree: Any) -> dict[str, np.ndarray]:
    """Our Glot, its state, or a gradient of the same structure, under the released module's names
    and layouts.

    The inverse of `load_official`, bit for bit, BatchNorm's counter included; a gradient has no
    running statistics and gets no names for them. Layer types are told from the arrays' own names.
    The released GAT always has an edge term: a Glot without one gets a term of zeros, which changes
    nothing.

    Raises:
        UsageError: another pooler, or a Glot with parts that the released module lacks (residual,
            virtual node).
    """
    require(
        not isinstance(glot_or_gradient_tree, Mlp),
        "only a Glot has the released module's names",
        "an Mlp",
        "There is no file to write it to.",
    )
    state = (
        nnx.state(glot_or_gradient_tree)
        if isinstance(glot_or_gradient_tree, nnx.Module)
        else glot_or_gradient_tree
    )
    tree = nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state
    found = {_path(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(tree)}
    depth = len({path.split(".")[2] for path in found if path.startswith("gnn.layers.")})
    first = {
        path.removeprefix("gnn.layers.0.") for path in found if path.startswith("gnn.layers.0.")
    }
    fits = [
        conv
        for conv, names in LAYERS.items()
        if {*names} - _BUFFERS <= first <= {*names} or _without_term(names) == first
    ]
    names = _names(fits[0], depth) if fits else _names("gcn", 0)
    known = {path for path, _ in names.values()}
    complete = {path for path in known if path.startswith("readout.")} <= set(found)
    require(
        complete and set(found) <= known,
        "a tree of the parameters that the released module has",
        f"others: {', '.join(sorted(set(found) - known)) or 'none, and no readout'}",
        "Pass a Glot without residual and virtual node, its state or its gradient.",
    )
    if isinstance(glot_or_gradient_tree, Glot) and fits[:1] == ["gat"]:
        for path in known - set(found):
            found[path] = np.zeros_like(
                found[path.replace("edge_kernel", "source").replace("edge", "source")]
            )
    return {
        official: name.to_theirs(found[path])
        for official, (path, name) in names.items()
        if path in found
    }


_BUFFERS = {"epsilon", "norm.mean", "norm.var", "norm.batches"}


def _without_term(names: Mapping[str, _Name]) -> set[str]:
    """A GAT of ours may lack the edge term that the release always has."""
    return {*names} - {"edge", "edge_kernel"} if "source" in names else set()


def _path(keys: tuple[Any, ...]) -> str:
    """Dotted path of a leaf; nnx wraps some leaves in a further attribute."""
    parts = [
        str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in keys
    ]
    return ".".join(part for part in parts if part not in ("value", "raw_value"))


def _names(conv: str, depth: int) -> dict[str, tuple[str, _Name]]:
    """Official key -> (our path, layout)."""
    names = {name.official: (f"readout.{ours}", name) for ours, name in READOUT.items()}
    for k in range(depth):
        names |= {
            f"convs.{k}.{name.official}": (f"gnn.layers.{k}.{ours}", name)
            for ours, name in LAYERS[conv].items()
        }
    return names


def _at(model: Glot, path: str) -> Any:
    found: Any = model
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


def _empty(arrays: Mapping[str, np.ndarray], conv: str, jk: str, depth: int) -> Glot:
    """A Glot of the sizes that the arrays have."""
    scorer_dim, width = _shape(arrays, "score_layer.0.weight", 2)
    if depth == 0:
        return Glot(width, num_layers=0, jk=jk, scorer_dim=scorer_dim, rngs=nnx.Rngs(0))
    first = next(
        name.official for ours, name in LAYERS[conv].items() if ours in ("kernel", "root_kernel")
    )
    hidden_dim, dim = _shape(arrays, f"convs.0.{first}", 2)
    heads = _shape(arrays, "convs.0.att_src", 3)[1] if conv == "gat" else 1
    model = Glot(
        dim,
        hidden_dim,
        depth,
        gnn=conv,
        jk=jk,
        heads=heads,
        edge_term=conv == "gat",
        scorer_dim=scorer_dim,
        rngs=nnx.Rngs(0),
    )
    require(
        model.pooled_dim == width,
        f"with jk {jk!r} the readout takes tokens of width {model.pooled_dim}",
        width,
        "Is jk the one it was trained with?",
    )
    return model


def _shape(arrays: Mapping[str, np.ndarray], name: str, axes: int) -> Shape:
    shape = arrays[name].shape
    require(
        len(shape) == axes and min(shape) > 0,
        f"{name} has {axes} axes and no empty one",
        shape,
        "Is it the released module's?",
    )
    return shape


def _array(name: Any, value: Any) -> np.ndarray:
    """A tensor, parameter or array as numpy; bfloat16, which numpy lacks, widened.

    Counters are integers, all else floats.
    """
    require(
        isinstance(name, str),
        "the keys of a state_dict are names",
        repr(name),
        "Save module.state_dict().",
    )
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UsageError(
            "the values of a state_dict are arrays", f"{name}: {error}", "Save module.state_dict()."
        ) from error
    wanted = "i" if name.endswith("num_batches_tracked") else "f"
    require(
        array.dtype.kind == wanted,
        "weights are floats and counters integers",
        f"{name} of {array.dtype}",
        "Save module.state_dict().",
    )
    return array


def _state_dict(source: Mapping[str, Any] | str | PathLike[str]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    try:
        import torch

        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise missing_extra("extract", "a .pth file", "torch", error) from error
    except Exception as error:  # torch raises whatever the damaged file provokes
        raise UsageError(
            "a .pth file holds a state_dict of tensors",
            f"{source}: {error}",
            "Save it with torch.save(module.state_dict(), FILE).",
        ) from error
    require(
        isinstance(loaded, Mapping),
        "a .pth file holds a state_dict of tensors",
        f"{source}, a {type(loaded).__name__}",
        "Save module.state_dict().",
    )
    return loaded
