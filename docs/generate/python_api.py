"""The page of the Python API: every public name of the package, by what people do with it."""

from __future__ import annotations

import inspect

import glot_jax

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Commands as functions": (
        "Flags of a command are keywords of its function: `--hidden-dim 64` is `hidden_dim=64`.",
        ("extract", "train", "predict", "explain", "evaluate", "ExtractResult", "TrainResult"),
    ),
    "Classifiers and regressors": (
        "Estimators in the way of scikit-learn, on texts.",
        ("TextClassifier", "TextRegressor", "load"),
    ),
    "A trained run": (
        "What reads, runs and explains a run folder.",
        (
            "SentenceEncoder",
            "Predictor",
            "Explainer",
            "RunFolder",
            "load_model",
            "evaluate_run",
            "read_runs",
        ),
    ),
    "Token graphs and poolers": (
        "Pure functions and Flax modules: nothing here reads or writes a file.",
        ("token_graph", "TokenGraph", "TokenBatch", "Glot", "AdaPool", "Mean", "Max", "Cls"),
    ),
    "Stores and backbones": (
        "Token states on disk, and the frozen model that makes them.",
        ("HiddenStore", "Backbone"),
    ),
    "Settings": (
        "The classes behind the flags; checked where they are made.",
        ("ExtractConfig", "TrainConfig"),
    ),
    "Caches and errors": ("", ("use_compile_cache", "clear_cache", "UsageError")),
}
"""Title -> text and names; together they are `glot_jax.__all__`."""

NESTED = ("GraphConfig", "PoolerConfig", "ObjectiveConfig", "OptimizerConfig")
"""Groups of settings inside TrainConfig."""


def identifier(name: str) -> str:
    """The full name of a public object where it is defined."""
    part = getattr(glot_jax, name)
    return f"{part.__module__}.{part.__qualname__}"


def entry(title: str, target: str, part: object, level: int = 3) -> list[str]:
    """A heading, and the docstring of what `target` names."""
    options = [
        f"    heading_level: {level}",
        "    show_root_toc_entry: true",
        f"    heading: {title}",
        f"    toc_label: {title.removeprefix('glot_jax.')}",
    ]
    if inspect.isclass(part) and issubclass(part, Exception):
        options.append("    members: []")
    return [f"::: {target}", "    options:", *("  " + option for option in options), ""]


def pages() -> dict[str, str]:
    """The page, by its path."""
    import glot_jax.config.train as train_settings

    lines = [
        "# Python API",
        "",
        "`import glot_jax` loads neither JAX nor PyTorch: a name is loaded when it is used.",
        "",
    ]
    for title, (text, names) in GROUPS.items():
        lines += [f"## {title}", ""]
        if text:
            lines += [text, ""]
        for name in names:
            lines += entry(f"glot_jax.{name}", identifier(name), getattr(glot_jax, name))
        if title == "Settings":
            for name in NESTED:
                part = getattr(train_settings, name)
                lines += entry(name, f"glot_jax.config.train.{name}", part)
    return {"reference/python.md": "\n".join(lines)}
