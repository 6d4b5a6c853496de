"""MTEB (Muennighoff et al. 2023; paper section 4.4) on a trained run.

Models of sentence-transformers can be evaluated beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mteb
import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.errors import UsageError
from glot_jax.files import make_folders, read_json, write_json
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.mteb_files import sha256_of
from glot_jax.inference.mteb_presets import MTEB_PRESETS
from glot_jax.inference.mteb_tasks import known_task, local_task
from glot_jax.inference.stored_states import encode_through_store
from glot_jax.run_folders.run_folder import CheckpointName

if TYPE_CHECKING:
    # A package of another extra, which only --beside needs.
    from sentence_transformers import SentenceTransformer

Scores = dict[str, float | None]
"""Task -> main score; None where it is not defined."""


@dataclasses.dataclass(frozen=True)
class MtebOptions:
    """How a run is evaluated on MTEB."""

    data: Path | None = None
    """Folder of tasks that are read from files (see `mteb_tasks`); others come from the Hub."""
    states: Path | None = None
    """Folder of stores in which the states of texts are kept for other heads on the backbone."""
    beside: Sequence[str] = ()
    """Names or folders of sentence-transformers models that are evaluated as well."""
    out: Path | None = None
    """Default: RUN/mteb."""
    backbone: str | None = None
    """Where the frozen model lies, if the run knows it only by the name of a folder."""
    checkpoint: CheckpointName = "best"
    batch_size: int = 32
    """Texts of one forward pass."""
    query_prefix: str = ""
    passage_prefix: str = ""


class TextModel(AbsEncoder):
    """What MTEB evaluates: any function from texts to vectors.

    Args:
        encode: texts -> [texts, dim].
        name: shown in MTEB's results.
        query_prefix: put before queries.
        passage_prefix: put before passages.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], np.ndarray],
        name: str,
        *,
        query_prefix: str = "",
        passage_prefix: str = "",
    ):
        self._encode = encode
        self._prefixes = {
            PromptType.query: query_prefix,
            PromptType.document: passage_prefix,
        }
        # MTEB reads name and revision of a model from here; a run has neither on the Hub.
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"glot-jax/{name}", "revision": "local"}
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        prompt_type: PromptType | None = None,
        **_others: object,
    ) -> np.ndarray:
        """Vectors of the texts of MTEB's batches; the arguments are MTEB's."""
        prefix = ""
        # None where a task knows no queries and passages: texts are all of one kind.
        if prompt_type is not None:
            prefix = self._prefixes[PromptType(prompt_type)]
        texts: list[str] = []
        for batch in inputs:
            texts += [prefix + text for text in batch["text"]]
        # All at once: the encoder makes batches of its own, by length.
        return self._encode(texts)


@dataclasses.dataclass(frozen=True)
class _Model:
    """A model to evaluate."""

    load: Callable[[], TextModel | SentenceTransformer]
    """Called when the first of its results is not there yet."""
    fingerprint: Mapping[str, Any]
    """What its vectors depend on."""


@dataclasses.dataclass(frozen=True)
class _Task:
    """A task to evaluate on."""

    name: str
    folder: Path | None
    """Its folder in the local data; None: from the Hub."""
    origin: Mapping[str, Any]
    """What its data are."""


def run_mteb(
    run: Path, tasks: Sequence[str], options: MtebOptions | None = None
) -> dict[str, Scores]:
    """Main scores of the run, then of each sentence-transformers model beside it.

    Writes OUT/<model>/<task>.json (all of MTEB's scores and what they depend on) as each is done,
    and OUT/mteb.json. A result that is there, of the same model, data and settings, is read and not
    computed again.

    Args:
        run: run folder.
        tasks: names of MTEB, of folders in the local data, or of MTEB_PRESETS.
        options: default: those of MtebOptions.

    Returns:
        {model: {task: score}}.

    Raises:
        UsageError: no run, a backbone that is gone or another one, an unknown task, one without
            data and network, an OUT that cannot be written.
    """
    options = options or MtebOptions()
    names = _task_names(tasks, options.data)
    models = _models(run, options)
    out = options.out or run / "mteb"
    settings = {
        "batch_size": options.batch_size,
        "query_prefix": options.query_prefix,
        "passage_prefix": options.passage_prefix,
        "stored_states": options.states is not None,
        "mteb": mteb.__version__,
    }
    scores: dict[str, Scores] = {model: {} for model in models}
    # Task by task, so that a task is done for all models when a long evaluation is cut off.
    for name in names:
        task = _task(name, options.data)
        for label, model in models.items():
            identity = {
                "task": name,
                "model": model.fingerprint,
                **task.origin,
                **settings,
            }
            # As it will be read back: tuples become lists, paths strings.
            text = json.dumps(identity, default=str)
            identity = json.loads(text)
            path = out / label / f"{name}.json"
            result = {}
            if path.is_file():
                result = read_json(path)
            # A result of other data, settings or weights under this name is replaced.
            if result.get("identity") != identity:
                evaluated = _evaluate(task, model.load(), options.batch_size)
                result = {"identity": identity, **evaluated}
                _write(path, result)
                _report(label, name, result)
            scores[label][name] = result["main_score"]
    _write(out / "mteb.json", scores)
    return scores


def _task_names(tasks: Sequence[str], data: Path | None) -> list[str]:
    """Names of single tasks, each once; presets are replaced by theirs."""
    if data is not None and not data.is_dir():
        raise UsageError(
            rule="--mteb-data must be a folder of tasks",
            got=data,
            fix="Check the path.",
        )
    names: list[str] = []
    for task in tasks:
        names += MTEB_PRESETS.get(task, (task,))
    unknown = []
    for name in names:
        if _local_folder(name, data) is None and known_task(name) is None:
            unknown.append(name)
    if unknown:
        raise UsageError(
            rule=(
                "--mteb must name tasks of MTEB, folders of --mteb-data, or"
                f" {', '.join(MTEB_PRESETS)}"
            ),
            got=", ".join(unknown),
            fix="Check the spelling, or add the folder.",
        )
    # A dict keeps the order, which a set would not.
    return list(dict.fromkeys(names))


def _local_folder(name: str, data: Path | None) -> Path | None:
    if data is None or not (data / name).is_dir():
        return None
    return data / name


def _task(name: str, data: Path | None) -> _Task:
    folder = _local_folder(name, data)
    # A folder comes before the Hub: whoever puts data there wants them read.
    if folder is not None:
        origin = {"data": "local", "sha256": sha256_of(folder)}
        return _Task(name, folder, origin)
    # `_task_names` has looked: MTEB knows it.
    task: Any = known_task(name)
    revision = task.metadata.dataset.get("revision")
    return _Task(name, None, {"data": "hub", "revision": revision})


def _models(run: Path, options: MtebOptions) -> dict[str, _Model]:
    """The run, and the models beside it, by the names of their folders of results."""
    encoder = SentenceEncoder.load(
        run,
        backbone=options.backbone,
        checkpoint=options.checkpoint,
    )
    if options.states is None:
        encode = functools.partial(encoder.encode, batch_size=options.batch_size)
    else:
        encode = functools.partial(
            encode_through_store,
            encoder,
            folder=options.states,
            batch_size=options.batch_size,
            backbone=options.backbone,
        )
    name = run.resolve().name
    model = TextModel(
        encode,
        name,
        query_prefix=options.query_prefix,
        passage_prefix=options.passage_prefix,
    )
    models = {name: _Model(lambda: model, encoder.fingerprint)}
    for name in options.beside:
        source = find_source(name, None)
        label = name.rstrip("/").rpartition("/")[2]
        if label in models:
            raise UsageError(
                rule="results lie in a folder for each model, so their last names must differ",
                got=f"two called {label}",
                fix="Rename one of them.",
            )
        # Loaded once, whatever the number of tasks.
        load = functools.partial(_sentence_transformer, source.location)
        fingerprint = {"sentence-transformers": source.identity()}
        models[label] = _Model(functools.cache(load), fingerprint)
    return models


def _evaluate(
    task: _Task,
    model: TextModel | SentenceTransformer,
    batch_size: int,
) -> dict[str, Any]:
    """MTEB's scores of a model on a task, as JSON has them."""
    # Any: what is called below lies in MTEB's subclasses, not in their common base.
    loaded: Any
    if task.folder is None:
        loaded = known_task(task.name)
    else:
        loaded = local_task(task.name, task.folder.parent)
    try:
        loaded.load_data()
    except UsageError:
        raise
    # The failures of loading share no base class: connection, offline mode, missing, gated, disk.
    except Exception as error:
        raise UsageError(
            rule="a task of MTEB must have data: in a folder of --mteb-data, or on the Hub",
            got=f"{task.name}: {type(error).__name__}: {_first_line(error)}",
            fix=f"Put it into DIR/{task.name}, or connect to the Hub.",
        ) from error
    result = mteb.evaluate(
        # By its protocol a model is also built from a name on the Hub, which nobody does here.
        cast("Any", model),
        [loaded],
        # Our own files say what a result depends on; MTEB's cache goes by names alone.
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
        raise_error=True,
    ).task_results[0]
    # Before the next task is loaded: both at once may not fit into the memory.
    loaded.unload_data()
    return {
        "main_score": _plain(result.get_score()),
        "metric": loaded.metadata.main_score,
        "scores": _plain(result.scores),
    }


def _plain(value: object) -> object:
    """A value as JSON has it.

    What is not finite (a correlation with vectors that are all the same, a statistic of too few)
    is null.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    # Before the numbers, to which bool belongs as well.
    if isinstance(value, str | bool | None):
        return value
    # Of Python or NumPy, which JSON knows nothing of.
    number = float(cast("float", value))
    if math.isfinite(number):
        return number
    return None


def _report(label: str, task: str, result: Mapping[str, Any]) -> None:
    score = result["main_score"]
    if score is None:
        shown = "not defined"
    else:
        shown = f"{score:.4f}"
    # stderr: on stdout stands the JSON of all tasks, once they are done.
    print(f"{label}: {task} {shown} ({result['metric']})", file=sys.stderr)


def _sentence_transformer(location: str) -> SentenceTransformer:
    try:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(location)
    # A missing package, code that would have to be trusted, a folder of something else.
    except Exception as error:
        raise UsageError(
            rule="--beside must name models that sentence-transformers can load",
            got=f"{location} ({_first_line(error)})",
            fix="Check the folder or the name.",
        ) from error


def _first_line(error: Exception) -> str:
    # Errors of the Hub's client are pages long; the first line says which one it is.
    lines = str(error).strip().splitlines()
    if not lines:
        return ""
    return lines[0]


def _write(path: Path, value: Mapping[str, Any]) -> None:
    make_folders(path.parent)
    write_json(path, value)
