"""MTEB (Muennighoff et al. 2023; paper section 4.4) on a trained run, and on sentence-transformers
models beside it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from glot_jax.errors import UsageError, require
from glot_jax.extraction import dump
from glot_jax.extraction.backbone_source import find_source
from glot_jax.extraction.from_recipe import config_from
from glot_jax.files import make_folders, read_json, write_json
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.mteb_tasks import known_task, local_task, sha256_of
from glot_jax.moved import renamed_keywords
from glot_jax.store import HiddenStore
from glot_jax.store.identity import canonical_sha256
from glot_jax.training.run_folder import CheckpointName

PRESETS: dict[str, tuple[str, ...]] = {
    # Table 3.
    "paper": (
        "EmotionClassification",
        "SciFact",
        "RedditClustering",
        "AskUbuntuDupQuestions",
        "STS12",
        "TwitterSemEval2015",
        "SummEval",
    ),
    "table12": (
        "AmazonCounterfactualClassification",
        "AmazonPolarityClassification",
        "AmazonReviewsClassification",
        "Banking77Classification",
        "EmotionClassification",
        "ImdbClassification",
        "MTOPDomainClassification",
        "MTOPIntentClassification",
        "MassiveIntentClassification",
        "MassiveScenarioClassification",
        "ToxicConversationsClassification",
        "TweetSentimentExtractionClassification",
        "ArguAna",
        "CQADupstackRetrieval",
        "ClimateFEVER",
        "DBPedia",
        "FEVER",
        "FiQA2018",
        "HotpotQA",
        "NFCorpus",
        "NQ",
        "QuoraRetrieval",
        "SCIDOCS",
        "SciFact",
        "TRECCOVID",
        "Touche2020",
        "MSMARCO",
        "ArxivClusteringP2P",
        "ArxivClusteringS2S",
        "BiorxivClusteringP2P",
        "BiorxivClusteringS2S",
        "MedrxivClusteringP2P",
        "MedrxivClusteringS2S",
        "RedditClustering",
        "RedditClusteringP2P",
        "StackExchangeClustering",
        "StackExchangeClusteringP2P",
        "TwentyNewsgroupsClustering",
        "BIOSSES",
        "SICK-R",
        "STS12",
        "STS13",
        "STS14",
        "STS15",
        "STS16",
        "STS17",
        "STS22",
        "STSBenchmark",
        "AskUbuntuDupQuestions",
        "MindSmallReranking",
        "SciDocsRR",
        "StackOverflowDupQuestions",
        "SprintDuplicateQuestions",
        "TwitterSemEval2015",
        "TwitterURLCorpus",
        "SummEval",
    ),
}


class TextModel(AbsEncoder):
    """What MTEB evaluates: any function from texts to vectors [texts, dim], with a prefix for
    queries and one for passages.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], np.ndarray],
        name: str,
        *,
        query_prefix: str = "",
        passage_prefix: str = "",
    ):
        self._encode, self._prefixes = (
            encode,
            {PromptType.query: query_prefix, PromptType.document: passage_prefix},
        )
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"glot-jax/{name}", "revision": "local"}
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        prefix = "" if prompt_type is None else self._prefixes[PromptType(prompt_type)]
        return self._encode([prefix + text for batch in inputs for text in batch["text"]])


@renamed_keywords(which="checkpoint")
def run_mteb(
    run: Path,
    tasks: Sequence[str],
    *,
    data: Path | None = None,
    states: Path | None = None,
    beside: Sequence[str] = (),
    out: Path | None = None,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
    batch_size: int = 32,
    query_prefix: str = "",
    passage_prefix: str = "",
) -> dict[str, dict[str, float | None]]:
    """Main scores, {model: {task: score}}: of the run, then of each sentence-transformers model in
    `beside`. None: not defined.

    Writes OUT/<model>/<task>.json (all of MTEB's scores and what they depend on) as each is done,
    and OUT/mteb.json. A result that is there, of the same model, data and settings, is read and not
    computed again.

    Args:
        tasks: names of MTEB, of folders in `data`, or of PRESETS.
        data: folder of tasks that are read from files; others come from the Hub. See mteb_data.
        states: folder of stores in which the states of texts are kept for other heads on the same
            backbone.
        out: default RUN/mteb.

    Raises:
        UsageError: no run, a backbone that is gone or another one, an unknown task, one without
            data and network, an OUT that cannot be written.
    """
    names = list(dict.fromkeys(name for given in tasks for name in PRESETS.get(given, (given,))))
    local = {name for name in names if data is not None and (data / name).is_dir()}
    require(
        data is None or data.is_dir(), "--mteb-data is a folder of tasks", data, "Check the path."
    )
    unknown = [name for name in names if name not in local and known_task(name) is None]
    require(
        not unknown,
        "--mteb names tasks of MTEB, folders of --mteb-data, or paper, table12",
        ", ".join(unknown),
        "Check the spelling, or add the folder.",
    )
    out = out or run / "mteb"
    settings = {
        "batch_size": batch_size,
        "query_prefix": query_prefix,
        "passage_prefix": passage_prefix,
        "stored_states": states is not None,
        "mteb": mteb.__version__,
    }
    # Those beside the run are loaded once, when the first of their results is not there yet.
    models: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {}
    encoder = SentenceEncoder.load(run, backbone=backbone, checkpoint=checkpoint)
    encode = (
        functools.partial(encoder.encode, batch_size=batch_size)
        if states is None
        else functools.partial(
            encode_through_store, encoder, folder=states, batch_size=batch_size, backbone=backbone
        )
    )
    models[run.resolve().name] = (
        lambda: TextModel(
            encode, run.resolve().name, query_prefix=query_prefix, passage_prefix=passage_prefix
        ),
        encoder.fingerprint,
    )
    for name in beside:
        source = find_source(name, None)
        label = name.rstrip("/").rpartition("/")[2]
        require(
            label not in models,
            "results lie in a folder for each model, by its last name",
            f"two called {label}",
            "Rename one of them.",
        )
        models[label] = (
            functools.cache(functools.partial(_sentence_transformer, source.location)),
            {"sentence-transformers": source.identity()},
        )
    scores: dict[str, dict[str, float | None]] = {name: {} for name in models}
    for task in names:
        place = data / task if data is not None and task in local else None
        if place is not None:
            origin = {"data": "local", "sha256": sha256_of(place)}
        else:
            known = known_task(task)
            assert known is not None  # `names` holds local tasks and those that MTEB knows
            origin = {"data": "hub", "revision": known.metadata.dataset.get("revision")}
        for name, (make, fingerprint) in models.items():
            identity = json.loads(
                json.dumps({"task": task, "model": fingerprint, **origin, **settings}, default=str)
            )
            path = out / name / f"{task}.json"
            found = read_json(path) if path.is_file() else {}
            if found.get("identity") != identity:
                found = {"identity": identity, **_evaluate(task, place, make(), batch_size)}
                _write(path, found)
                shown = (
                    "not defined" if found["main_score"] is None else f"{found['main_score']:.4f}"
                )
                print(f"{name}: {task} {shown} ({found['metric']})", file=sys.stderr)
            scores[name][task] = found["main_score"]
    _write(out / "mteb.json", scores)
    return scores


def _evaluate(name: str, place: Path | None, model: Any, batch_size: int) -> dict[str, Any]:
    task: Any = known_task(name) if place is None else local_task(name, place.parent)
    try:
        task.load_data()
    except UsageError:
        raise
    # the failures of loading share no base class: connection, offline mode, missing, gated, disk
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        got = f"{name}: {type(error).__name__}: {line}"
        raise UsageError(
            "a task of MTEB has data: in a folder of --mteb-data, or from the Hub",
            got,
            f"Put it into DIR/{name}, or connect to the Hub.",
        ) from error
    result = mteb.evaluate(
        model,
        [task],
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
        raise_error=True,
    ).task_results[0]
    task.unload_data()
    return _plain(
        {
            "main_score": result.get_score(),
            "metric": task.metadata.main_score,
            "scores": result.scores,
        }
    )


def _plain(value: Any) -> Any:
    """As JSON has it: what is not finite (a correlation with vectors that are all the same, a
    statistic of too few) is null.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    if isinstance(value, str | bool | None):
        return value
    return float(value) if np.isfinite(value) else None


def _sentence_transformer(location: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(location)
    except (
        Exception
    ) as error:  # a missing package, code that would have to be trusted, a folder of something else
        line = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            "--beside names models that sentence-transformers can load",
            f"{location} ({line})",
            "Check the folder or the name.",
        ) from error


def _write(path: Path, value: Mapping[str, Any]) -> None:
    make_folders(path.parent)
    write_json(path, value)


# --------------------------------------------------------------------------------------------------
# States that are kept


def encode_through_store(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    folder: Path,
    *,
    batch_size: int = 32,
    backbone: str | None = None,
) -> np.ndarray:
    """Vectors [texts, dim] of texts whose states are in a store under `folder`, which is made if it
    is not there.

    The store's name is a hash of the texts and of everything that decides their states, the head
    not among it.
    """
    assert encoder.backbone is not None
    if not len(texts):
        return np.zeros((0, encoder.dim), np.float32)
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text.encode())}:".encode() + text.encode())
    recipe = encoder.backbone.recipe().to_json()
    name = canonical_sha256({"recipe": recipe, "texts": digest.hexdigest()})[:32]
    with tempfile.TemporaryDirectory() as scratch:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (Path(scratch) / "test.jsonl").write_text(lines, encoding="utf-8")
        config = config_from(
            encoder.recipe,
            layers=encoder.layers,
            backbone=backbone,
            data=Path(scratch),
            text_columns=("text",),
            out=folder / name,
            deduplicate=True,
        )
        if not (folder / name / "manifest.json").is_file():
            dump(config, backbone=encoder.backbone)
    reader = HiddenStore(
        folder / name,
        layer=None if encoder.mixed else encoder.layers[-1],
        layers=encoder.layers if encoder.mixed else None,
    )["test"]
    return encoder.encode_stored(reader, batch_size=batch_size)[reader.row_texts]
