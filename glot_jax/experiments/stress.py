"""`glot stress`: can a pooler find the one relation that matters?

Extract once, tune and train every pooler, and print each score beside what a control reaches.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from glot_jax.config.experiments import StressConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import lookup, missing_extra
from glot_jax.experiments.stress_table import print_stress
from glot_jax.experiments.tuning import tuned_runs
from glot_jax.files import TABLE_STYLE, write_json
from glot_jax.reporting.stress_records import (
    COMPARISONS,
    RECORDS,
    StressComparison,
    StressRecord,
    StressSetting,
    StressTraining,
)
from glot_jax.run_folders.predictions import Predictions, read_predictions
from glot_jax.training.workspace import Workspace

Protocol = Literal["controlled", "released", "paper"]

GRAPH_CONTROLS = {"glot-self-loops": "self", "glot-complete": "complete", "glot-random": "random"}
"""GLOT on graphs that know nothing of the text: every token alone, all linked to all, and as many
edges as the threshold links but anywhere. What is left of its score on these is not owed to the
graph."""


def settings_of(config: StressConfig) -> list[StressSetting]:
    """Every combination of the config's axes.

    Distances are for `controlled` alone: other protocols have no related words to move apart.
    """
    settings = []
    for protocol in config.protocol:
        distances = config.distances if protocol == "controlled" else (0,)
        # None: related words stand anywhere.
        positions = config.positions or (None,)
        # None: whatever train.py does about sinks.
        treatments = config.sinks or (None,)
        axes = itertools.product(config.ratios, positions, distances, treatments)
        for ratio, position, distance, sinks in axes:
            settings.append(StressSetting(protocol, ratio, distance, position, config.layer, sinks))
    return settings


def run_stress(config: StressConfig) -> list[StressRecord]:
    """Run it and write OUT/stress.json, OUT/comparison.json and OUT/stress.png.

    A record is of the test split, at the epoch and learning rate best on the validation split.
    Controls are not trained; their records carry the seed of the data. comparison.json has for
    every pooler the interval of its accuracy over test rows, and its difference to glot, with a
    permutation p over the same rows and Welch's p over seeds.

    Returns:
        The records of stress.json.

    Raises:
        UsageError: unknown poolers or protocols, or settings that do not fit each other.
    """
    from glot_jax.pooling import POOLERS
    from glot_jax.texts.stress_texts import PROTOCOLS

    # Misspellings are found before minutes of work, not after.
    for name in config.poolers:
        lookup(POOLERS, name, "pooler (--poolers)")
    for protocol in config.protocol:
        lookup(PROTOCOLS, protocol, "protocol (--protocol)")
    settings = settings_of(config)
    for lr in config.lrs:
        _train_config(config, settings[0], config.out, "glot", lr, config.seeds[0])
    # All of them now: a combination that no text has ends here as well.
    extractions = [_extract_config(config, setting) for setting in settings]
    # Now: without matplotlib the last step of hours of work would fail.
    plot_stress = _plotter()
    config.out.mkdir(parents=True, exist_ok=True)
    records: list[StressRecord] = []
    comparisons: list[StressComparison] = []
    for setting, extract in zip(settings, extractions, strict=True):
        scores, compared = _run_setting(config, setting, extract)
        records += scores
        comparisons += compared
        print_stress(setting, scores, compared, config.rows[0])
        # After every setting: what is done is not lost with what follows.
        _write(config.out / RECORDS, records)
        _write(config.out / COMPARISONS, comparisons)
    plot_stress(records, config.out / "stress.png")
    # To stderr: the tables on stdout can be redirected into a file.
    print(f"wrote {config.out}/{RECORDS}, {COMPARISONS} and stress.png", file=sys.stderr)
    return records


def _write(path: Path, results: Sequence[StressRecord | StressComparison]) -> None:
    write_json(path, [result.to_json() for result in results], TABLE_STYLE)


def _plotter() -> Callable[..., None]:
    try:
        from glot_jax.reporting.figures import plot_stress
    except ImportError as error:
        raise missing_extra("viz", "the figure", "matplotlib", error) from error
    return plot_stress


def _extract_config(config: StressConfig, setting: StressSetting) -> ExtractConfig:
    train_rows, test_rows = config.rows
    return ExtractConfig(
        backbone=config.backbone,
        task="diagnostic",
        out=config.out / "stores" / f"{Path(config.backbone).name}-{setting.name}",
        protocol=cast("Protocol", setting.protocol),
        ratio=setting.ratio,
        distance=setting.distance,
        position=setting.position,
        # Validation is as large as test: it chooses the learning rate and the epoch.
        diagnostic_rows=(train_rows, test_rows, test_rows),
        layers=(-1 if setting.layer is None else setting.layer,),
        sample_seed=config.seeds[0],
    )


def _run_setting(
    config: StressConfig,
    setting: StressSetting,
    extract: ExtractConfig,
) -> tuple[list[StressRecord], list[StressComparison]]:
    """Extract, score the controls, train every pooler, and compare."""
    from glot_jax.extraction import dump

    dump(extract)
    scores, twins = _controls(extract)
    records = []
    for name, accuracy in scores.items():
        records.append(StressRecord(setting, name, extract.sample_seed, accuracy))
    variants = list(config.poolers)
    if "glot" in variants:
        # What is left of glot on wrong graphs means nothing without glot itself.
        variants += list(GRAPH_CONTROLS)
    store = require_folder(extract.out)
    # Token states that are placed on the device once, for all runs of this store.
    workspace = Workspace()
    predictions = {}
    for variant in variants:
        trained, predictions[variant] = _runs(config, setting, store, variant, workspace)
        records += trained
    return records, compare_poolers(setting, predictions, twins)


def compare_poolers(
    setting: StressSetting,
    predictions: Mapping[str, Sequence[Predictions]],
    twins: np.ndarray,
) -> list[StressComparison]:
    """The interval of each pooler's accuracy, and its difference to glot's on the same rows.

    Args:
        setting: what they were trained and judged on.
        predictions: pooler -> test predictions of each seed.
        twins: [rows], equal for texts of the same words. Twins are drawn together: a pooler that
            cannot tell them apart is right for exactly one of each two.
    """
    from glot_jax.objectives.metrics import METRICS
    from glot_jax.reporting.statistics import mean_deviation, paired_difference, score_interval

    accuracy = METRICS["accuracy"]
    comparisons = []
    for name, seeds in predictions.items():
        labels = seeds[0].labels
        guesses = [seed.predictions for seed in seeds]
        accuracies = [accuracy(guess, labels) for guess in guesses]
        mean, deviation = mean_deviation(accuracies)
        # Nobody is compared with itself, or with a pooler that was not trained.
        difference = None
        if name != "glot" and "glot" in predictions:
            of_glot = [seed.predictions for seed in predictions["glot"]]
            difference = paired_difference(
                accuracy,
                of_glot,
                guesses,
                labels,
                groups=twins,
            )
        interval = score_interval(accuracy, guesses, labels, groups=twins)
        comparison = StressComparison(
            setting=setting,
            pooler=name,
            rows=len(labels),
            # Twins count once: they are right or wrong together.
            independent=len(np.unique(twins)),
            accuracy=mean,
            deviation=deviation,
            interval=interval,
            difference=difference,
        )
        comparisons.append(comparison)
    return comparisons


def _controls(extract: ExtractConfig) -> tuple[dict[str, float], np.ndarray]:
    """Test accuracies of the probes that see no relation between words.

    And for each test row the number of its twins.
    """
    from glot_jax.backbone_files.backbone_source import find_source
    from glot_jax.backbones.tokenizer import kept_texts, load_tokenizer, vocabulary
    from glot_jax.store import HiddenStore
    from glot_jax.texts import open_task
    from glot_jax.texts.stress_controls import controls
    from glot_jax.texts.stress_texts import StressRow
    from glot_jax.texts.stress_words import whole_words

    tokenizer = load_tokenizer(find_source(extract.backbone, extract.revision))
    task = open_task(extract, vocabulary=lambda: whole_words(vocabulary(tokenizer)))
    # Generated again, with the labels: a store keeps states, not texts.
    splits = {}
    for name, split in task.splits.items():
        rows = []
        for example in split:
            # Written by the generator: every text has one class.
            assert isinstance(example.label, int)
            rows.append(StressRow(example.texts[0], example.label))
        splits[name] = rows
    texts = [row.text for row in splits["test"]]
    # A control is to know no more of a text than the backbone, which reads it cut.
    max_length = HiddenStore(extract.out, trust=True).recipe.max_length
    kept = kept_texts(tokenizer, texts, cast("int", max_length))
    accuracies = controls(extract.protocol, splits, extract.sample_seed, kept)
    # Twins have the same words; texts of the other protocols have their own.
    words = []
    for text in texts:
        words.append(" ".join(sorted(text.split())))
    # Rows with the same words get the same number.
    _, twins = np.unique(words, return_inverse=True)
    return accuracies, twins


def _runs(
    config: StressConfig,
    setting: StressSetting,
    store: Path,
    variant: str,
    workspace: Workspace,
) -> tuple[list[StressRecord], list[Predictions]]:
    """One record per seed, and what these runs predict for the test rows."""

    def configure(lr: float, seed: int) -> TrainConfig:
        return _train_config(config, setting, store, variant, lr, seed)

    tuned = tuned_runs(configure, config.lrs, config.seeds, "accuracy", workspace)
    treated = "" if setting.sinks is None else f" sinks {setting.sinks}"
    records = []
    for seed, summary in zip(config.seeds, tuned.summaries, strict=True):
        training = StressTraining(
            lr=tuned.lr,
            validation=summary.splits["validation"].best["accuracy"],
            parameters=summary.trained_parameters,
            seconds=summary.seconds["train"],
        )
        accuracy = summary.splits["test"].best["accuracy"]
        records.append(StressRecord(setting, variant, seed, accuracy, training))
        print(
            f"{store.name}{treated} {variant} seed {seed}: {accuracy:.3f} at lr {tuned.lr:g}",
            file=sys.stderr,
        )
    return records, [read_predictions(folder)["test"] for folder in tuned.folders]


def _train_config(
    config: StressConfig,
    setting: StressSetting,
    store: Path,
    variant: str,
    lr: float,
    seed: int,
) -> TrainConfig:
    # A control is glot with another rule of the graph.
    pooler = "glot" if variant in GRAPH_CONTROLS else variant
    name = f"{variant}-lr{lr:g}-seed{seed}"
    # Runs of one store lie side by side; those of earlier versions keep their names.
    if setting.sinks is not None:
        name += f"-sinks-{setting.sinks}"
    run = TrainConfig(
        store=store,
        out=config.out / "runs" / store.name / name,
        epochs=config.epochs,
        seed=seed,
        batch_size=config.batch_size,
        # The texts of a setting are all of nearly one length: more buckets only compile more.
        buckets=1,
        # tau also for the random graph, which has as many edges as this threshold would link.
        graph=GraphConfig(graph=GRAPH_CONTROLS.get(variant, "threshold"), tau=config.tau),
        pooler=PoolerConfig(pooler=pooler, hidden_dim=config.hidden_dim),
        optimizer=OptimizerConfig(lr=lr),
        objective=ObjectiveConfig(select_on="validation"),
    )
    if setting.sinks is None:
        return run
    return dataclasses.replace(run, sinks=cast("Any", setting.sinks))
