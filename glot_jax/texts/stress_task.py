"""The stress test as a task: its generated texts as the examples of three splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts.splits import Split, TaskData
from glot_jax.texts.stress_texts import StressRow, generate, words_in
from glot_jax.texts.tasks import Example, TaskSpec

SPECIAL_TOKENS = 2
"""Fewest special tokens that a backbone adds to a text, usually [CLS] and [SEP]."""
_PAPER_LENGTH = 512
"""Default of --max-length for the protocol paper: its 256 words do not fit into the 128 tokens of
the others.
"""


def stress_test(
    config: ExtractConfig,
    spec: TaskSpec,
    vocabulary: Callable[[], Sequence[str]] | None,
) -> TaskData:
    """Generate the stress test that the configuration describes.

    Args:
        config: the options of extract.py.
        spec: the task of the table.
        vocabulary: returns the backbone's whole words, for the protocol `paper`.

    Raises:
        UsageError: options for files, and texts that would be cut.
    """
    # A folder that is named and not read would be a surprise.
    if config.data is not None:
        raise UsageError(
            rule=f"task {spec.name} must be generated",
            got=f"--data {config.data}",
            fix="Leave out --data.",
        )
    # A sample of twins would leave halves of pairs, and with them an imbalance.
    if config.max_train_rows is not None:
        raise UsageError(
            rule="the rows of the stress test must be set by --diagnostic-rows",
            got=f"--max-train-rows {config.max_train_rows}",
            fix="Leave it out and set --diagnostic-rows.",
        )
    words = None
    if config.protocol == "paper":
        spec = replace(spec, max_length=_PAPER_LENGTH)
        _require_whole_texts(config, spec)
        if vocabulary is not None:
            # A callable: only this protocol needs the tokenizer to be loaded.
            words = vocabulary()
    # In memory as a whole: some thousand texts, which every control needs at once.
    generated = generate(
        config.protocol,
        ratio=config.ratio,
        rows=config.diagnostic_rows,
        seed=config.sample_seed,
        vocabulary=words,
        distance=config.distance,
        position=config.position,
    )
    splits = {name: _split(name, rows) for name, rows in generated.items()}
    return TaskData(spec, splits)


def _require_whole_texts(config: ExtractConfig, spec: TaskSpec) -> None:
    # At least one token a word; a tokenizer that cuts words needs more, which nobody knows here.
    shortest = words_in("paper") + SPECIAL_TOKENS
    if (config.max_length or spec.max_length) < shortest:
        raise UsageError(
            rule="no text of the protocol paper must be cut: its signal could be lost",
            got=f"--max-length {config.max_length}",
            fix=f"Give {shortest} or more.",
        )


def _split(name: str, rows: Sequence[StressRow]) -> Split:
    # A list: the texts are there already, so that iterating again costs nothing.
    examples: list[Example] = []
    for index, row in enumerate(rows):
        examples.append(Example((row.text,), row.label, index))
    return Split(
        name=name,
        rows=len(rows),
        read=lambda: iter(examples),
    )
