"""What classifiers and regressors of texts share: parameters, a head, answers, files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from glot_jax.config.base import NUMBERS
from glot_jax.config.flat import changed_values
from glot_jax.errors import UsageError
from glot_jax.inference.answering import Answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.fitting import (
    FrozenModel,
    as_rows,
    backbone_of,
    keep_states,
    tell_of_other_states,
    train_config,
)
from glot_jax.inference.hub_folder import upload_folder
from glot_jax.inference.loading import BackboneChoice, TrainedHead, load_backbones, load_head
from glot_jax.inference.predictor import Predictor
from glot_jax.inference.pretrained import PlainHead, read_head, save_head
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.texts.tasks import TaskSpec

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

    # One by one and kept as they are: scikit-learn clones an estimator by these names.
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
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
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
        return tags

    def frozen_model(self) -> FrozenModel:
        """The backbone that the parameters name."""
        return FrozenModel(
            self.backbone,
            layer=self.layer,
            max_length=self.max_length,
            prompt=self.prompt,
            device=self.device,
            cache=self.cache,
        )

    def train_settings(self) -> dict[str, Any]:
        """The parameters that are settings of train.py, by their names."""
        values = {name: getattr(self, name) for name in self._SETTINGS}
        # scikit-learn's name for no weights is None.
        values["class_weight"] = "none" if self.class_weight is None else self.class_weight
        return {**values, "seed": self._seed(), **(self.settings or {})}

    def _seed(self) -> int:
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31))
        if self.random_state is None:
            return int(np.random.default_rng().integers(2**31))
        return int(self.random_state)

    def set_head(self, head: PlainHead) -> None:
        """Answer with this head from now on."""
        if hasattr(self, "head_"):
            tell_of_other_states(self.head_, head)
        # With an underscore at the end, by which scikit-learn knows what was fitted.
        self.head_ = head
        self._loaded = LoadedHead()

    def answers(self, texts: object) -> Answers:
        """What the head says of some texts, or pairs of texts.

        Raises:
            NotFittedError: there is no head yet.
            UsageError: what is no text, or rows of another number of texts.
        """
        head = self.fitted_head()
        rows = as_rows(texts)
        predictor = self._loaded.predictor
        if predictor is None:
            backbone = backbone_of(head, self.frozen_model())
            predictor = Predictor([SentenceEncoder.from_head(head.trained(), backbone)])
            self._loaded.predictor = predictor
        # Whatever was asked before, of these texts or others, is not run again.
        (member,) = predictor.members
        if member.backbone is not None:
            keep_states(member.backbone, rows, member.recipe.storage_dtype)
        return predictor.predict(rows, self.batch_size)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the head as a folder: config.json and model.safetensors.

        The backbone is named there, and not part of it.

        Raises:
            NotFittedError: there is no head yet.
            UsageError: the disk refused.
        """
        save_head(folder, self.fitted_head(), self.saved_values())

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
        if "kind" not in saved:
            raise UsageError(
                rule="an estimator needs a head that was trained on classes or scores",
                got=f"{location}, exported from a run that has none",
                fix="Encode with the run: SentenceEncoder.load(RUN).",
            )
        if saved["kind"] != cls.__name__:
            raise UsageError(
                rule=f"{cls.__name__} must be loaded from a folder of its own",
                got=f"{location}, of a {saved.get('kind')}",
                fix=f"Use {saved.get('kind')}.from_pretrained.",
            )
        parameters = {**saved["parameters"], "device": device}
        if backbone is not None:
            parameters["backbone"] = backbone
        # As `saved_values` wrote a mapping; "balanced" and None stay what they are.
        # An earlier version had fewer parameters: those that it did not write have their defaults.
        if isinstance(parameters.get("class_weight"), list):
            parameters["class_weight"] = dict(parameters["class_weight"])
        estimator = cls(**parameters)
        estimator.restore_values(saved)
        estimator.set_head(head)
        return estimator

    def saved_values(self) -> dict[str, Any]:
        """What a folder says of this estimator, as JSON values."""
        parameters = self.get_params(deep=False)
        # Of this machine, and of this process.
        del parameters["device"]
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None
        if parameters["settings"] is not None:
            parameters["settings"] = dict(parameters["settings"])
        if isinstance(parameters["class_weight"], Mapping):
            # Names of JSON objects are strings, and classes need not be.
            parameters["class_weight"] = _pairs(parameters["class_weight"])
        return {"kind": type(self).__name__, "parameters": parameters}

    def restore_values(self, saved: Mapping[str, Any]) -> None:
        """Take what `saved_values` added to the parameters."""

    def fitted_head(self) -> PlainHead:
        """The head.

        Raises:
            NotFittedError: there is none yet.
        """
        if not hasattr(self, "head_"):
            raise NotFittedError(
                f"{type(self).__name__} must be fitted first: call fit, or load a run"
            )
        return self.head_

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
        """The estimator of a run folder.

        Args:
            run: run folder of a task with classes, for a classifier, or with scores.
            backbone: where the frozen model lies, if the run knows it by a folder's name alone.
            device: torch device of the backbone.
            checkpoint: "best" or "last".
            plugins: modules, or their names, with parts that the run has. Their code is run.

        Raises:
            UsageError: no such run, one of another kind of task, or a backbone that is gone.
        """
        head = load_head(run, checkpoint, plugins)
        # Before the backbone is loaded, which may take minutes.
        cls.require_task(head.model.spec.task, run)
        (frozen,) = load_backbones([head], BackboneChoice(backbone, device))
        estimator = cls.of_head(head, backbone, device)
        estimator._loaded.predictor = Predictor([SentenceEncoder.from_head(head, frozen)])
        return estimator

    @classmethod
    def of_head(cls, head: TrainedHead, backbone: str | None = None, device: str = "auto") -> Self:
        """The estimator of a trained head, its parameters those of the run; loads no backbone.

        `fit` then trains as the run was trained, on one layer and with a holdout for want of
        validation rows.
        """
        from glot_jax.backbones.from_recipe import PACKAGED

        recipe = head.folder.recipe
        name = recipe.backbone_name or ""
        config = head.folder.config
        estimator = cls(
            backbone or PACKAGED.get(name, name),
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
            # `fit` has no validation rows: where they chose the epoch, a holdout does.
            select_on="last" if config.objective.select_on == "last" else "holdout",
            class_weight=_class_weight(head),
            settings=cls._further_settings(head) or None,
            random_state=config.seed,
            device=device,
        )
        estimator.set_head(PlainHead.of_run(head))
        estimator.set_task(head.model.spec.task)
        return estimator

    @classmethod
    def _further_settings(cls, head: TrainedHead) -> dict[str, object]:
        """The settings of a run that are no parameters, where they are not the defaults."""
        config = head.folder.config
        # Where things lie decides no number.
        base = train_config(Path("unused"), Path("unused"), {})
        values = changed_values(config, base, NUMBERS)
        for name in (*cls._SETTINGS, "seed", "layer", "class_weight"):
            values.pop(name, None)
        if config.mix_layers is not None:
            # By their numbers: an estimator has one layer, and that is no mixture of all.
            values["mix_layers"] = list(head.folder.model.layers)
        # They were computed, or the parameter names them.
        is_named = head.model.spec.task.label_kind == "classes"
        if config.objective.class_weight == "balanced" or is_named:
            values.pop("class_weights", None)
        return values

    @classmethod
    def require_task(cls, task: TaskSpec, run: str | os.PathLike[str]) -> None:
        """Require a run whose answers are of this estimator's kind.

        Raises:
            UsageError: it predicts something else.
        """
        raise NotImplementedError

    def set_task(self, task: TaskSpec) -> None:
        """Take from a run's task what `fit` takes from labels."""


def _class_weight(head: TrainedHead) -> Literal["balanced"] | dict[str, float] | None:
    """The parameter that gives the classes of a run the weights that they had."""
    objective = head.folder.config.objective
    if objective.class_weight == "balanced":
        return "balanced"
    task = head.model.spec.task
    # Of several classes a row `fit` takes the weights as a setting.
    if not objective.class_weights or task.label_kind != "classes":
        return None
    return dict(zip(task.classes, objective.class_weights, strict=True))


def _pairs(weights: Mapping[Any, float]) -> list[list[Any]]:
    """A mapping as JSON values."""
    # Labels may be NumPy's own numbers, which are no JSON.
    pairs = []
    for name, weight in weights.items():
        plain = name.item() if isinstance(name, np.generic) else name
        pairs.append([plain, float(weight)])
    return pairs


class LoadedHead:
    """Compiled code and a backbone, made when an estimator first answers; no pickle holds them.

    An object of its own, so that `predict` changes no attribute of the estimator.
    """

    # A box, so that filling it is no change of what holds it.
    def __init__(self) -> None:
        self.predictor: Predictor | None = None

    def __reduce__(self) -> tuple[type[LoadedHead], tuple[()]]:
        """Neither copied nor pickled: made again from the head."""
        return LoadedHead, ()
