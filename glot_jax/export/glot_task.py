"""The head of a task in PyTorch: vectors of the texts of a row -> scores of classes, or one score.

This file is copied into every exported folder, beside glot_pooling.py, and imports torch alone.
It computes in float32 what the training code computes in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

OUTPUTS = {
    "classes": ("logits", "probabilities"),
    "score": ("score",),
}
"""What a TaskHead gives, by what it predicts."""


class TaskHead(nn.Module):
    """A linear map of the vectors of a row's texts, or the cosine of two texts.

    Args:
        width: of a text's vector.
        kind: `linear`, or `cosine` of two projected vectors.
        texts: texts of a row.
        features: what the linear map reads: `concat`, [a; b; ...], or `interaction` of two texts,
            [a; b; |a - b|; a * b].
        classes: names of the classes, in the order of the scores; none for one score.
        link: what makes probabilities of logits: `softmax`, or `sigmoid` of each class by itself,
            where a row has any number of them.
        temperature: that the logits are divided by for it, of a run that was calibrated.
        scale: (lowest, highest) score of the task, which the head learned as 0 and 1.
    """

    def __init__(
        self,
        width: int,
        *,
        kind: str = "linear",
        texts: int = 1,
        features: str = "concat",
        classes: Sequence[str] = (),
        link: str = "softmax",
        temperature: float = 1.0,
        scale: Sequence[float] = (0.0, 1.0),
    ):
        super().__init__()
        if kind not in ("linear", "cosine"):
            raise ValueError(f"unknown task head; got {kind!r}. Known: cosine, linear.")
        if link not in ("softmax", "sigmoid"):
            raise ValueError(f"unknown link; got {link!r}. Known: sigmoid, softmax.")
        self.kind = kind
        self.link = link
        self.temperature = temperature
        self.texts = texts
        self.interacts = features == "interaction" and texts == 2
        self.classes = list(classes)
        # A task of scores names no classes; its one output is read on the scale of its labels.
        self.predicts = "classes" if self.classes else "score"
        self.lowest = float(scale[0])
        self.highest = float(scale[1])
        shape = (width, width)
        if kind == "linear":
            # [a; b; |a - b|; a * b], or the texts side by side.
            copies = 4 if self.interacts else texts
            shape = (width * copies, len(self.classes) or 1)
        # [in, out], as the training code has it: nothing is transposed on the way.
        self.kernel = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(shape[1]))

    def forward(self, *vectors: Tensor) -> dict[str, Tensor]:
        """Scores of some rows.

        Args:
            vectors: [rows, width] of the first texts of the rows, of the second ones, ...

        Returns:
            `logits` and `probabilities` [rows, classes]; or `score` [rows], on the task's own
            scale.

        Raises:
            ValueError: as many vectors as a row has texts were not given.
        """
        if len(vectors) != self.texts:
            raise ValueError(
                f"this head reads the vectors of {self.texts} texts a row; got {len(vectors)}."
            )
        if self.kind == "cosine":
            score = self._cosine(vectors)
        else:
            outputs = self._features(vectors) @ self.kernel + self.bias
            if self.classes:
                return {"logits": outputs, "probabilities": self._probabilities(outputs)}
            # A column of one score, like those of classes.
            score = outputs[:, 0]
        return {"score": score * (self.highest - self.lowest) + self.lowest}

    def _probabilities(self, logits: Tensor) -> Tensor:
        cooled = logits / self.temperature
        if self.link == "sigmoid":
            return cooled.sigmoid()
        return cooled.softmax(-1)

    def _features(self, vectors: Sequence[Tensor]) -> Tensor:
        parts = list(vectors)
        if self.interacts:
            first, second = parts
            # Both are the same whichever text comes first.
            parts += [(first - second).abs(), first * second]
        return torch.cat(parts, -1)

    def _cosine(self, vectors: Sequence[Tensor]) -> Tensor:
        # One projection for both: the score does not depend on which text comes first.
        first, second = (text @ self.kernel + self.bias for text in vectors)
        # The floor of a norm is that of the training code.
        norms = [(side.square().sum(-1) + 1e-16).sqrt() for side in (first, second)]
        return (first * second).sum(-1) / (norms[0] * norms[1])


class RowHead(nn.Module):
    """Token states of the texts of a row -> their vectors, and the scores of the row.

    Args:
        head: token states and mask of some texts -> a vector for each.
        task: vectors -> scores.
    """

    def __init__(self, head: nn.Module, task: TaskHead):
        super().__init__()
        self.head = head
        self.task = task

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """`sentence_embedding`, then the OUTPUTS of the task.

        Args:
            token_embeddings: [batch, length, ...] of one text a row, [batch, texts, length, ...] of
                several.
            attention_mask: [batch, length], or [batch, texts, length].
        """
        texts = self.task.texts
        if texts == 1:
            vectors = self.head(token_embeddings, attention_mask)
            scores = self.task(vectors)
        else:
            # The pooling head knows texts, not rows.
            flat = self.head(token_embeddings.flatten(0, 1), attention_mask.flatten(0, 1))
            vectors = flat.unflatten(0, (-1, texts))
            scores = self.task(*vectors.unbind(1))
        # A tuple: names are given to the outputs of a graph by their order.
        names = OUTPUTS[self.task.predicts]
        return (vectors, *[scores[name] for name in names])
