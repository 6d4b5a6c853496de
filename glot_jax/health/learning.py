"""What can be told after the last step: whether a head has learned anything."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from glot_jax.health.finding import Finding

HARDLY_BETTER = 0.95
"""Share of the constant answer's loss above which a head has hardly learned."""
GROWTH = 1000.0
"""Times the smallest loss so far, from which on a loss has grown."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a run has ended, beside the answer that is the same for every row."""

    metric: str
    score: float
    """Of the epoch that was chosen."""
    constant_score: float
    """Of always answering the commonest class, or the mean; of a random order for rankings."""
    split: str
    """Where both were scored."""
    rows: int
    """Of that split."""
    epochs: int
    loss: float
    """Mean training loss of the last epoch."""
    first_loss: float
    """Mean training loss of the first epoch."""
    constant_loss: float | None
    """Training loss of the best constant answer; None where there is none."""

    @property
    def chance(self) -> float:
        """Standard error of the constant answer's score."""
        share = self.constant_score
        # A correlation of nothing has a deviation of 1 / sqrt(rows); a share that of a coin.
        variance = share * (1 - share) if 0 < share < 1 else 1.0
        return math.sqrt(variance / max(self.rows, 1))


def not_learned(ending: Ending) -> list[Finding]:
    """Whether a head ends no better than the answer that is the same for every row.

    It does where its score is not above the constant answer's; where the training loss of the last
    of several epochs is not below it (the first epoch's mean holds the first steps); or where the
    loss is nearly the constant answer's and the score within a standard error of it. A training
    loss that did not fall after the first epoch is named as well.
    """
    constant = ending.constant_loss
    if ending.epochs > 1 and ending.loss >= ending.first_loss:
        text = (
            f"not learned: the training loss was {ending.first_loss:.4g} in the first epoch and"
            f" {ending.loss:.4g} in the last. Try another --lr; a learned threshold or a long"
            " warm-up may need more --epochs"
        )
        values = {"first_loss": ending.first_loss, "loss": ending.loss}
        return [Finding("not-learned", text, values)]
    by_score = ending.score <= ending.constant_score
    by_loss = False
    if constant is not None:
        hardly = ending.loss >= HARDLY_BETTER * constant
        within_chance = ending.score <= ending.constant_score + ending.chance
        by_loss = (ending.epochs > 1 and ending.loss >= constant) or (hardly and within_chance)
    # Either is enough: a head that overfits has a small loss and a score of nothing.
    if not (by_score or by_loss):
        return []
    text = (
        f"not learned: {ending.metric} {ending.score:.3f} on {ending.split}, and"
        f" {ending.constant_score:.3f} by always giving the same answer"
    )
    values = {
        "score": ending.score,
        "constant_score": ending.constant_score,
        "loss": ending.loss,
    }
    if constant is not None:
        text += (
            f"; training loss {ending.loss:.4g} in the last epoch, {constant:.4g} by the best"
            " constant answer"
        )
        values["constant_loss"] = constant
    text += ". Try another --seed, another --lr, more --epochs, --standardise, or --sinks drop"
    return [Finding("not-learned", text, values)]


def grown_loss(losses: Sequence[float]) -> list[Finding]:
    """Whether the training loss has grown a thousandfold.

    Args:
        losses: means of consecutive steps, in their order.
    """
    smallest = math.inf
    for index, loss in enumerate(losses):
        # A loss of nothing would make growth of rounding.
        if smallest < math.inf and loss > GROWTH * max(smallest, 1e-6):
            text = (
                f"the training loss grew from {smallest:.3g} to {loss:.3g} (line {index + 1} of the"
                " log). Try a smaller --lr, --clip-norm 1 or a warm-up"
            )
            return [Finding("loss-grew", text, {"smallest": smallest, "loss": loss})]
        # Of all lines before: a loss that doubles forty times grows as well.
        smallest = min(smallest, loss)
    return []


def below_linear(metric: str, score: float, linear: float, split: str) -> list[Finding]:
    """Whether a head ends below logistic regression on mean vectors.

    Args:
        metric: of both scores.
        score: the head's.
        linear: the regression's, on the same rows.
        split: that both are judged on.
    """
    if score >= linear:
        return []
    text = (
        f"{metric} {score:.3f} on {split}, and {linear:.3f} by logistic regression on mean vectors:"
        " the head has not learned what is there. Try more --epochs, another --lr or --preset tuned"
    )
    return [Finding("below-linear", text, {"score": score, "linear": linear})]
