"""Heads in scikit-learn's way: `TextClassifier` and `TextRegressor`.

    classifier = TextClassifier(backbone="minilm").fit(texts, labels)
    classifier.predict(["a new text"])

They fit into Pipeline, cross_val_score and GridSearchCV. A run that train.py made is one too:
`TextClassifier.load("runs/cola")`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.multiclass import check_classification_targets

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import listed, shown
from glot_jax.inference.answering import Answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.fitting import (
    FrozenModel,
    as_rows,
    fit_head,
    keep_states,
    loaded_backbone,
    task_of,
)
from glot_jax.inference.hub_folder import upload_folder
from glot_jax.inference.loading import BackboneChoice, load_head
from glot_jax.inference.plain_head import PlainHead
from glot_jax.inference.predictor import Predictor
from glot_jax.inference.pretrained import read_head, save_head
from glot_jax.run_folders.run_folder import CheckpointName

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class TextEstimator(BaseEstimator):
    """What classifiers and regressors of texts share.

    Parameters are those of extract.py and train.py, with their defaults; see `TextClassifier`.
    """

    _SETTINGS: ClassVar[tuple[str, ...]] = (
        "pooler",
        "gnn",
        "graph",
        "tau",
        "hidden_dim",
        "num_layers",
        "jk",
        "epochs",
        "batch_size",
        "lr",
        "select_on",
    )

    def __init__(
        self,
        backbone: str = "minilm",
        *,
        layer: int = -1,
        max_length: int | None = None,
        prompt: str | None = None,
        pooler: str = "glot",
        gnn: str = "gat",
        graph: str = "threshold",
        tau: float = 0.6,
        hidden_dim: int = 128,
        num_layers: int = 2,
        jk: str = "cat",
        epochs: int = 3,
        batch_size: int = 32,
        lr: float = 2e-4,
        select_on: Literal["last", "holdout"] = "last",
        class_weight: Literal["balanced"] | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 42,
        device: str = "auto",
        cache: bool = True,
    ):
        self.backbone = backbone
        self.layer = layer
        self.max_length = max_length
        self.prompt = prompt
        self.pooler = pooler
        self.gnn = gnn
        self.graph = graph
        self.tau = tau
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.jk = jk
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.select_on = select_on
        self.class_weight = class_weight
        self.settings = settings
        self.random_state = random_state
        self.device = device
        self.cache = cache

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn's own record
        """What scikit-learn may expect of texts: strings in a list, no numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Parameters and arrays: no compiled code, and no backbone."""
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_predictor"}

    def _frozen(self) -> FrozenModel:
        return FrozenModel(
            self.backbone,
            layer=self.layer,
            max_length=self.max_length,
            prompt=self.prompt,
            device=self.device,
            cache=self.cache,
        )

    def _train_settings(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self._SETTINGS}
        # scikit-learn's name for no weights is None.
        values["class_weight"] = self.class_weight or "none"
        return {**values, "seed": self._seed(), **(self.settings or {})}

    def _seed(self) -> int:
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31))
        if self.random_state is None:
            return int(np.random.default_rng().integers(2**31))
        return int(self.random_state)

    def _set_head(self, head: PlainHead) -> None:
        self.head_ = head
        self._predictor = None

    def _answers(self, texts: object) -> Answers:
        head = self._fitted_head()
        rows = as_rows(texts)
        predictor = getattr(self, "_predictor", None)
        if predictor is None:
            backbone = loaded_backbone(self._frozen())
            predictor = Predictor([SentenceEncoder.from_head(head.trained(), backbone)])
            self._predictor = predictor
        backbone = predictor.members[0].backbone
        if backbone is not None:
            keep_states(backbone, rows)
        return predictor.predict(rows, self.batch_size)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the head as a folder: config.json and model.safetensors.

        The backbone is named there, and not part of it.

        Raises:
            NotFittedError: there is no head yet.
            UsageError: the disk refused.
        """
        save_head(folder, self._fitted_head(), self._saved())

    def push_to_hub(
        self, name: str, *, private: bool = True, api: HfApi | None = None
    ) -> dict[str, Any]:
        """Put the folder of `save_pretrained` on the Hub.

        Args:
            name: of the repository, "owner/model".
            private: a repository that only its owner sees.
            api: a huggingface_hub.HfApi of your own; default: the logged-in user's.

        Returns:
            {repository, private, commit, url}.

        Raises:
            NotFittedError: there is no head yet.
            UsageError: a public repository, or whatever the Hub refuses.
        """
        with tempfile.TemporaryDirectory() as scratch:
            self.save_pretrained(scratch)
            return upload_folder(
                Path(scratch), name, message="GLOT pooling head", private=private, api=api
            )

    @classmethod
    def from_pretrained(
        cls,
        location: str | os.PathLike[str],
        *,
        revision: str | None = None,
        backbone: str | None = None,
        device: str = "auto",
        plugins: Iterable[str | ModuleType] = (),
    ) -> Self:
        """The estimator of a folder that `save_pretrained` wrote, or of a repository on the Hub.

        Args:
            location: folder, or "owner/model".
            revision: commit, tag or branch of a repository.
            backbone: where the frozen model lies, if it is not where it was.
            device: torch device of the backbone.
            plugins: modules, or their names, with parts that the head has. Their code is run.

        Raises:
            UsageError: no such folder or repository, damaged files, or an estimator of another
                kind.
        """
        head, saved = read_head(location, revision=revision, plugin_modules=plugins)
        if saved.get("kind") != cls.__name__:
            raise UsageError(
                rule=f"{cls.__name__} must be loaded from a folder of its own",
                got=f"{location}, of a {saved.get('kind')}",
                fix=f"Use {saved.get('kind')}.from_pretrained.",
            )
        parameters = {**saved["parameters"], "device": device}
        if backbone is not None:
            parameters["backbone"] = backbone
        estimator = cls(**parameters)
        estimator._restore(saved)
        estimator._set_head(head)
        return estimator

    def _saved(self) -> dict[str, Any]:
        """What a folder says of this estimator, as JSON values."""
        parameters = self.get_params(deep=False)
        # Of this machine, and of this process.
        del parameters["device"]
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None
        if parameters["settings"] is not None:
            parameters["settings"] = dict(parameters["settings"])
        return {"kind": type(self).__name__, "parameters": parameters}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take what `_saved` added to the parameters."""

    def _fitted_head(self) -> PlainHead:
        if not hasattr(self, "head_"):
            raise NotFittedError(
                f"{type(self).__name__} must be fitted first: call fit, or load a run"
            )
        return self.head_

    @classmethod
    def _load(
        cls,
        run: str | os.PathLike[str],
        choice: BackboneChoice,
        checkpoint: CheckpointName,
        plugins: Iterable[str | ModuleType],
    ) -> tuple[Self, Predictor]:
        head = load_head(run, checkpoint, plugins)
        from glot_jax.backbones.from_recipe import PACKAGED

        predictor = Predictor.load([run], choice, checkpoint=checkpoint, plugins=plugins)
        recipe = head.folder.recipe
        name = recipe.backbone_name or ""
        config = head.folder.config
        estimator = cls(
            choice.location or PACKAGED.get(name, name),
            layer=head.folder.model.layers[0],
            max_length=recipe.max_length,
            prompt=recipe.prompt,
            pooler=config.pooler.pooler,
            gnn=config.pooler.gnn,
            graph=config.graph.graph,
            tau=config.graph.tau,
            hidden_dim=config.pooler.hidden_dim,
            num_layers=config.pooler.num_layers,
            jk=config.pooler.jk,
            epochs=config.epochs,
            batch_size=config.batch_size,
            lr=config.optimizer.lr,
            random_state=config.seed,
            device=choice.device,
        )
        estimator._set_head(PlainHead.of_run(head))
        estimator._predictor = predictor
        return estimator, predictor


class TextClassifier(ClassifierMixin, TextEstimator):
    """A classifier of texts, or of pairs of texts: GLOT, or another pooler, on a frozen model.

        classifier = TextClassifier(backbone="minilm").fit(texts, labels)
        classifier.predict_proba(["a new text"])  # [1, classes]

    Args:
        backbone: Hub name, folder, GGUF file, `minilm` or `smollm2`, as for extract.py.
        layer: whose states are pooled, 0 (embeddings) to L, negative from the end.
        max_length: tokens of a text. Default: 128, or what the model has positions for.
        prompt: template that each text is put into.
        pooler: glot, mean, adapool, mlp, pma ...
        gnn: layers of glot: gat, gcn, gin, gine, sage.
        graph: rule of the edges.
        tau: cosine above which two tokens are linked.
        hidden_dim: width of the Token-GNN.
        num_layers: its depth.
        jk: jumping knowledge: cat, max, mean, none.
        epochs: passes over the training rows.
        batch_size: rows of a training step.
        lr: learning rate.
        select_on: last: train on all rows, take the last epoch. holdout: set a tenth aside, take
            the epoch that is best there.
        class_weight: "balanced" weighs the loss of every class by how rare it is; regressors do not
            read it.
        settings: further flags of train.py by their names: {"token_norm": "rms"}.
        random_state: seed of the initial values and of the order of the rows.
        device: torch device of the backbone.
        cache: keep token states in a folder of the user's, so that no text goes through the
            backbone twice. States of private texts lie there; see `glot_jax.clear_cache`.

    Attributes:
        classes_: [classes] labels, sorted, of the type that `fit` was given.
        head_: settings and trained arrays.
    """

    classes_: np.ndarray

    def fit(self, X: object, y: object) -> Self:
        """Train on texts and their labels.

        Args:
            X: [rows] strings, or pairs of strings.
            y: [rows] labels of one type.

        Raises:
            UsageError: what is no text, labels of two types, one class only, a setting that breaks
                a rule, or a backbone that cannot be run.
        """
        rows = as_rows(X)
        labels = _labels(y, len(rows))
        try:
            classes, indices = np.unique(labels, return_inverse=True)
        except TypeError as error:
            kinds = sorted({type(label).__name__ for label in labels.tolist()})
            raise UsageError(
                rule="labels must be of one type",
                got=listed(kinds),
                fix="Give strings, or give numbers.",
            ) from error
        check_classification_targets(labels)
        if len(classes) < 2:
            raise UsageError(
                rule="a classification needs two classes or more",
                got=f"only one class: {shown(classes.tolist())}",
                fix="Give rows of another class too.",
            )
        names = [str(name) for name in classes.tolist()]
        task = task_of(len(rows[0]), "classes", classes=names)
        settings = self._train_settings()
        head = fit_head(rows, indices.tolist(), task, self._frozen(), settings)
        self.classes_ = classes
        self._set_head(head)
        return self

    def _saved(self) -> dict[str, Any]:
        classes = self.classes_
        return {**super()._saved(), "classes": classes.tolist(), "dtype": classes.dtype.str}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        kind = np.dtype(saved["dtype"])
        self.classes_ = np.array(saved["classes"], kind)

    def predict(self, X: object) -> Shaped[np.ndarray, " rows"]:
        """The class of each row.

        Raises:
            NotFittedError: `fit` was not called.
            UsageError: what is no text, or rows of another number of texts.
        """
        answers = self._answers(X)
        return self.classes_[answers.values]

    def predict_proba(self, X: object) -> Float[np.ndarray, "rows classes"]:
        """Probabilities of the classes, in the order of `classes_`; errors as for `predict`."""
        return self._answers(X).probabilities

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        backbone: str | None = None,
        device: str = "auto",
        checkpoint: CheckpointName = "best",
        plugins: Iterable[str | ModuleType] = (),
    ) -> Self:
        """The classifier of a run folder.

        Args:
            run: run folder of a task with classes.
            backbone: where the frozen model lies, if the run knows it by a folder's name alone.
            device: torch device of the backbone.
            checkpoint: "best" or "last".
            plugins: modules, or their names, with parts that the run has. Their code is run.

        Raises:
            UsageError: no such run, one without classes, or a backbone that is gone.
        """
        choice = BackboneChoice(backbone, device)
        classifier, predictor = cls._load(run, choice, checkpoint, list(plugins))
        if not predictor.classes:
            raise UsageError(
                rule="a classifier needs a run that was trained on classes",
                got=f"{run}, which predicts scores",
                fix="Use TextRegressor.load.",
            )
        classifier.classes_ = np.array(predictor.classes)
        return classifier


class TextRegressor(RegressorMixin, TextEstimator):
    """A regressor of texts, or of pairs of texts (then the cosine of their projected vectors).

    Parameters are those of `TextClassifier`.

    Attributes:
        head_: settings and trained arrays.
    """

    def fit(self, X: object, y: object) -> Self:
        """Train on texts and their scores.

        Args:
            X: [rows] strings, or pairs of strings.
            y: [rows] numbers.

        Raises:
            UsageError: as for `TextClassifier.fit`; scores that are no numbers, or all the same.
        """
        rows = as_rows(X)
        labels = _labels(y, len(rows))
        try:
            scores = labels.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(
                rule="scores must be numbers",
                got=shown(labels.tolist()[:5]),
                fix="Use TextClassifier for classes.",
            ) from error
        if not np.isfinite(scores).all():
            raise UsageError(
                rule="scores must be finite",
                got="nan or inf",
                fix="Leave these rows out.",
            )
        low, high = float(scores.min()), float(scores.max())
        if low >= high:
            raise UsageError(
                rule="regression needs scores that differ",
                got=f"{low:g} in every row",
                fix="Check the labels.",
            )
        task = task_of(len(rows[0]), "regression", label_range=(low, high))
        head = fit_head(rows, scores.tolist(), task, self._frozen(), self._train_settings())
        self._set_head(head)
        return self

    def predict(self, X: object) -> Float[np.ndarray, " rows"]:
        """The score of each row, on the scale of `fit`; errors as for the classifier."""
        return np.asarray(self._answers(X).values, np.float64)

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        backbone: str | None = None,
        device: str = "auto",
        checkpoint: CheckpointName = "best",
        plugins: Iterable[str | ModuleType] = (),
    ) -> Self:
        """The regressor of a run folder; arguments and errors as for `TextClassifier.load`."""
        choice = BackboneChoice(backbone, device)
        regressor, predictor = cls._load(run, choice, checkpoint, list(plugins))
        if predictor.classes:
            raise UsageError(
                rule="a regressor needs a run that was trained on scores",
                got=f"{run}, which predicts classes",
                fix="Use TextClassifier.load.",
            )
        return regressor


def _labels(y: object, rows: int) -> np.ndarray:
    if y is None:
        raise UsageError(
            rule="fit requires y, a label for every text", got="None", fix="Give the labels too."
        )
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (rows,) or rows == 0:
        raise UsageError(
            rule="there must be a label for every text, at least one",
            got=f"{rows} texts and labels of the shape {labels.shape}",
            fix="Give as many labels as texts.",
        )
    return labels
