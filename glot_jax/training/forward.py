"""A model over all rows of one split: the one loop that evaluates, ranks and probes."""

from __future__ import annotations

import jax
import numpy as np

from glot_jax.errors import UsageError
from glot_jax.objectives.metrics import Outputs
from glot_jax.training.advance import judge_all
from glot_jax.training.edge_budgets import check_edges
from glot_jax.training.prepare import Run
from glot_jax.training.step_functions import TrainState


def run_over(
    run: Run,
    state: TrainState,
    split: str,
    judged_by: str = "outputs",
) -> Outputs:
    """What the model makes of every row of a split, in the order of its plan.

    Args:
        run: whose feed and compiled steps are used.
        state: parameters.
        split: a reported split of the run.
        judged_by: `outputs` of the head, with their losses; or `vectors`, the features that the
            head reads.

    Raises:
        UsageError: a value that is not finite, or a sparse batch that overflowed.
    """
    feed = run.feeds[split]
    count = feed.plan.steps_per_epoch
    name = "evaluate" if judged_by == "outputs" else "features"
    results = judge_all(run.steps, state, feed, name)
    dropped = [int(result["dropped_edges"]) for result in results]
    budgets = run.steps.edge_budgets
    check_edges(feed, budgets, dropped, range(count), split, run.config.out)
    # The order of the plan, by bucket; `Outputs.rows` says which row is which.
    planned = np.concatenate([feed.plan.batch(number).rows for number in range(count)])
    # -1 stands for a row that only fills a partial batch.
    real = planned >= 0
    rows = planned[real]
    if judged_by == "outputs":
        values = _joined(results, "outputs")[real]
        losses = _joined(results, "loss")[real]
        finite = np.isfinite(values).all(axis=1)
        finite &= np.isfinite(losses)
    else:
        values = _joined(results, "features")[real]
        # The head, and with it the loss, has not run.
        losses = np.zeros(0, np.float32)
        finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        broken = rows[~finite]
        noun = "output and loss" if judged_by == "outputs" else "vector"
        raise UsageError(
            rule=f"every {noun} of the model must be finite",
            got=f"{len(broken)} that are not, the first in {feed.name_row(broken[0])} of {split}",
            fix="Lower --lr; the last checkpoint is kept.",
        )
    return Outputs(values, rows, losses)


def look(run: Run, state: TrainState) -> dict[str, np.ndarray]:
    """Readout weights and degrees of the tokens of one batch of the first evaluation split.

    Returns:
        readout_weights and degrees, [tokens] float32.
    """
    feed = run.feeds[run.evaluation_splits[0]]
    seen = jax.device_get(run.steps.look(state, feed.batch(0)))
    mask = seen.pop("mask")
    # Padding counts nothing and is linked to nothing.
    return {name: values[mask] for name, values in seen.items()}


def _joined(results: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    """What all batches gave under a name, one after the other along the rows."""
    return np.concatenate([result[name] for result in results])
