"""`glot explain`: which tokens of a text decided what a run says of it."""

from __future__ import annotations

import json

from glot_jax.cli.early_checks import require_run
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.explain import ExplainConfig
from glot_jax.errors import UsageError, require_extra
from glot_jax.files import write_bytes


def explain(config: ExplainConfig) -> int:
    """Show which tokens of texts decided what a trained run says of them."""
    require_run(config.run)
    from glot_jax.inference.answering import require_answers
    from glot_jax.run_folders.run_files import read_task

    task = require_answers([read_task(config.run)])
    rows = _rows(config.texts, task.text_columns)
    if config.out is not None and not config.out.parent.is_dir():
        raise UsageError(
            rule="--out must be in a folder that exists",
            got=str(config.out),
            fix="Make the folder.",
        )
    require_extra("extract", "glot explain")
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.explaining.explainer import Explainer
    from glot_jax.explaining.page import write_page
    from glot_jax.explaining.terminal_view import print_explanations

    explainer = Explainer.load(config.run, config.frozen, checkpoint=config.checkpoint)
    explanations = explainer.explain(rows, occlude=config.occlude, class_name=config.class_name)
    # All are there before anything is written: a page is whole or absent.
    values = [explanation.to_json() for explanation in explanations]
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    if config.json:
        print(text)
    elif config.out is None:
        print_explanations(explanations, top=config.top)
    elif config.out.suffix == ".json":
        write_bytes(config.out, f"{text}\n".encode())
    else:
        write_page(config.out, explanations)
    return 0


def _rows(texts: tuple[str, ...], columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The texts as rows, of as many as the run was trained on."""
    width = len(columns)
    if len(texts) % width:
        raise UsageError(
            rule=f"texts must come {width} a row: {', '.join(columns)}",
            got=f"{len(texts)}",
            fix="Quote each of them, and give whole rows.",
        )
    return [texts[first : first + width] for first in range(0, len(texts), width)]
