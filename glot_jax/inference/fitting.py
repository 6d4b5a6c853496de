"""Rows and labels in memory -> a trained head: what the estimators of `estimators` do inside."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from jaxtyping import Float

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.flat import from_flat
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError, require_extra
from glot_jax.file_formats.quoting import shown
from glot_jax.inference.answering import require_list, require_whole, rows_in
from glot_jax.inference.loading import load_head
from glot_jax.inference.pretrained import PlainHead
from glot_jax.store.scaled_states import is_scaled
from glot_jax.texts.label_lists import METRICS
from glot_jax.texts.tasks import Example, Label, TaskSpec, roles_of

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from glot_jax.backbones.backbone import Backbone
    from glot_jax.training.workspace import Workspace

Row = tuple[str, ...]
"""The texts of one row."""

_REPORTED = 8
"""Rows of the training data that a run without a holdout reports on, for want of others."""


@dataclasses.dataclass(frozen=True)
class FrozenModel:
    """Which backbone, and which of its states."""

    backbone: str
    layer: int = -1
    max_length: int | None = None
    prompt: str | None = None
    device: str = "auto"
    cache: bool = True
    """Keep states on disk, so that no text goes through the model twice."""

    def config(self, out: Path = Path("unused")) -> ExtractConfig:
        """Settings of an extraction into `out`."""
        return ExtractConfig(
            backbone=self.backbone,
            task="custom",
            out=out,
            layers=(self.layer,),
            max_length=self.max_length,
            prompt=self.prompt,
            device=self.device,
        )


_MOST_PROGRAMS = 16
"""Compiled programs that are kept: a search over learning rates needs one, over widths several."""


class _Compiled:
    """Training steps of the fits before, so that equal heads of a search are compiled once."""

    def __init__(self) -> None:
        self._workspace: Workspace | None = None

    def workspace(self) -> Workspace:
        """What the next fit shares with those before."""
        from glot_jax.training.workspace import Workspace

        # Programs hold memory and are never dropped one by one.
        if self._workspace is None or self._workspace.programs >= _MOST_PROGRAMS:
            self._workspace = Workspace()
        # States of a fit are not those of the next one.
        self._workspace.clear_states()
        return self._workspace


_COMPILED = _Compiled()

RecipeKey = tuple[FrozenModel, ExtractConfig]
"""A backbone by what a head's recipe says of it."""

_LOADED: dict[FrozenModel | RecipeKey, Backbone] = {}
"""The backbone that was used last in this process: a grid of heads loads it once."""


def loaded_backbone(frozen: FrozenModel) -> Backbone:
    """The backbone to fit on, from memory if it is the one that was used last.

    Raises:
        UsageError: it cannot be found, loaded or run.
    """
    return _loaded(frozen, frozen.config(), cache=frozen.cache)


def backbone_of(head: PlainHead, frozen: FrozenModel) -> Backbone:
    """The backbone that a head was trained on, from memory if it is the one that was used last.

    What the head's recipe says decides: prompt, added tokens, layers. `frozen` says where the model
    lies and runs.

    Raises:
        UsageError: it cannot be found, loaded or run, or is another one than the head's.
    """
    require_extra("extract", "an estimator of texts")
    from glot_jax.backbones.from_recipe import changes, config_from, require_same_backbone

    folder = head.folder()
    layers = folder.model.layers
    fitted_on = _LOADED.get(frozen)
    is_same = fitted_on is not None and set(layers) <= set(fitted_on.layers)
    if fitted_on is not None and is_same and not changes(folder.recipe, fitted_on):
        return fitted_on
    config = config_from(
        folder.recipe, layers=layers, backbone=frozen.backbone, device=frozen.device
    )
    backbone = _loaded((frozen, config), config, cache=frozen.cache)
    require_same_backbone(folder.recipe, backbone)
    return backbone


def _loaded(key: FrozenModel | RecipeKey, config: ExtractConfig, *, cache: bool) -> Backbone:
    require_extra("extract", "an estimator of texts")
    if key not in _LOADED:
        from glot_jax.backbones.backbone import Backbone
        from glot_jax.backbones.cached_backbone import CachedBackbone

        # One: two might not fit the memory.
        _LOADED.clear()
        kind = CachedBackbone if cache else Backbone
        _LOADED[key] = kind(config)
    return _LOADED[key]


def as_rows(texts: object) -> list[Row]:
    """Rows of one text or more, from whatever holds them.

    Args:
        texts: a list, NumPy array, pandas Series or DataFrame of strings, or of sequences of
            strings, all of one length.

    Raises:
        UsageError: one string alone, values that are not strings or hold half of a character, rows
            of different lengths.
    """
    require_list(texts)
    values = rows_in(texts)
    # Of scipy: without it, the error would be about rows of numbers.
    if hasattr(values, "toarray"):
        raise UsageError(
            rule="texts must be a list of strings, or of pairs of strings",
            got=f"a sparse matrix: {type(texts).__name__}",
            fix="Give the texts themselves, not their vectors.",
        )
    if not hasattr(values, "__iter__"):
        raise UsageError(
            rule="texts must be a list of strings, or of pairs of strings",
            got=type(texts).__name__,
            fix="Give a list.",
        )
    rows: list[Row] = []
    for number, value in enumerate(values):
        row = (value,) if isinstance(value, str) else value
        if not isinstance(row, Sequence | np.ndarray) or not all(
            isinstance(text, str) for text in row
        ):
            raise UsageError(
                rule="a text must be a string",
                got=f"{shown(value)} in row {number}",
                fix="Convert it.",
            )
        for text in row:
            # Now: the tokenizer would name neither the row nor what is wrong.
            require_whole(text, number)
        rows.append(tuple(map(str, row)))
        if len(rows[-1]) != len(rows[0]) or not rows[0]:
            raise UsageError(
                rule="every row must have the same number of texts, at least one",
                got=f"{len(rows[-1])} in row {number}, {len(rows[0])} in row 0",
                fix="Give one string a row, or a pair in every row.",
            )
    return rows


def task_of(
    texts_per_row: int,
    label_kind: Literal["classes", "multilabel", "regression"],
    *,
    classes: Sequence[str] = (),
    label_range: tuple[float, float] | None = None,
) -> TaskSpec:
    """The task of rows that have no file: columns are called text, or a and b."""
    roles = roles_of(texts_per_row)
    metrics: tuple[str, ...] = ("spearman", "pearson")
    if label_kind == "classes":
        metrics = ("accuracy", "f1") if len(classes) == 2 else ("accuracy",)
    elif label_kind == "multilabel":
        metrics = METRICS
    return TaskSpec(
        "custom",
        text_columns=roles,
        roles=roles,
        label_column="label",
        label_kind=label_kind,
        classes=tuple(classes),
        label_range=label_range,
        metrics=metrics,
    )


def fit_head(
    rows: Sequence[Row],
    labels: Sequence[Label],
    task: TaskSpec,
    frozen: FrozenModel,
    settings: Mapping[str, Any],
) -> PlainHead:
    """Train a head on some rows.

    Args:
        rows: texts.
        labels: class indices, ascending indices of all classes of a row, or scores.
        task: of the rows.
        frozen: the backbone.
        settings: fields of TrainConfig and of its groups, by their names.

    Raises:
        UsageError: a setting that does not exist or breaks a rule, a backbone that cannot be run,
            a loss that is not finite.
    """
    from glot_jax.extraction.rows_in_memory import store_rows
    from glot_jax.training import train

    examples = []
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        examples.append(Example(row, label, number))
    with tempfile.TemporaryDirectory(prefix="glot-jax-") as scratch:
        folder = Path(scratch)
        # Before the backbone runs: a misspelt setting is told at once.
        config = train_config(folder / "store", folder / "run", settings)
        backbone = loaded_backbone(frozen)
        keep_states(backbone, rows, "auto")
        splits = {"train": examples}
        if config.objective.select_on != "holdout":
            # Nothing is selected on it, but a run reports on some rows.
            splits["validation"] = examples[:_REPORTED]
        store_rows(splits, task, frozen.config(folder / "store"), backbone)
        train(config, quiet=True, workspace=_COMPILED.workspace())
        return PlainHead.of_run(load_head(config.out))


_NO_PARAMETERS = {"kind", "add_bos", "deterministic", "storage_dtype", "special_tokens", "adapter"}
"""Fields of a recipe that no parameter of an estimator sets."""


def tell_of_other_states(before: PlainHead, now: PlainHead) -> None:
    """Warn where a head is fitted again on states that are made otherwise than those before.

    A run's recipe says more than an estimator has parameters for.
    """
    earlier = before.folder().recipe
    recipe = now.folder().recipe
    fields = set(_NO_PARAMETERS)
    # Another name was asked for; of the same one, another commit was not.
    if earlier.backbone_name == recipe.backbone_name:
        fields.add("backbone")
    changed = earlier.explain(recipe, only=fields)
    if changed:
        warnings.warn(
            f"fitted on states that are made otherwise than before: {'; '.join(changed)};"
            " glot_jax.extract and glot_jax.train keep all of a recipe",
            UserWarning,
            stacklevel=4,
        )


def keep_states(backbone: Backbone, rows: Sequence[Row], storage_dtype: str) -> None:
    """Have the states of all texts on disk, if the backbone is one that keeps them.

    Args:
        backbone: runs what is missing.
        rows: texts.
        storage_dtype: of the store that they are rounded for; int8 and int4 are not kept.
    """
    from glot_jax.backbones.cached_backbone import CachedBackbone

    if not isinstance(backbone, CachedBackbone) or is_scaled(storage_dtype):
        return
    texts = list(dict.fromkeys(text for row in rows for text in row))
    # As a store holds them: float16 where they fit.
    dtype = "float16" if storage_dtype == "auto" else storage_dtype
    backbone.keep(backbone.tokenize(texts).ids, dtype)


def train_config(store: Path, out: Path, settings: Mapping[str, Any]) -> TrainConfig:
    """Settings of a run, from fields by their names, whichever group they belong to.

    Raises:
        UsageError: a name that no group has, or a value that breaks a rule.
    """
    base = TrainConfig(store=store, out=out, trust_store=True)
    return from_flat(TrainConfig, settings, "train.py", base)


class TrainedTransformer:
    """A transformer of scikit-learn with nothing to fit: what it computes was trained before.

    Attributes:
        dim: width of a vector.
    """

    dim: int

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "rows dim"]:
        """Vectors of texts."""
        raise NotImplementedError

    def fit(self, X: object, y: object = None) -> Self:  # noqa: ARG002
        """Do nothing: the vectors are those of a trained run."""
        return self

    def transform(self, X: object) -> Float[np.ndarray, "rows dim"]:
        """Vectors of texts, from any container that `TextClassifier` takes; errors as `encode`."""
        rows = as_rows(X)
        if rows and len(rows[0]) != 1:
            raise UsageError(
                rule="a vector is of one text",
                got=f"rows of {len(rows[0])} texts",
                fix="Give one column of texts.",
            )
        return self.encode([text for (text,) in rows])

    def fit_transform(self, X: object, y: object = None) -> Float[np.ndarray, "rows dim"]:
        """See `transform`."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the columns, "sentenceencoder0" and on; `input_features` is not read."""
        # scikit-learn passes the names of the columns that came in, of which there is one.
        del input_features
        return np.array([f"sentenceencoder{column}" for column in range(self.dim)], object)

    def __sklearn_is_fitted__(self) -> bool:
        """A trained run is."""
        return True

    def __sklearn_clone__(self) -> Self:
        """The encoder itself: a search over what comes after it shares one backbone."""
        return self

    def __sklearn_tags__(self) -> Tags:
        """A transformer of strings without anything to fit."""
        # Asked by scikit-learn alone: loading it takes longer than most texts take to encode.
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            requires_fit=False,
            input_tags=InputTags(string=True, one_d_array=True, two_d_array=False),
        )
