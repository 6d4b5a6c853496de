"""Draw the picture of README: the token graph of one sentence, and what two poolers make of it.

    python docs/pictures/token_graph.py

Two heads are trained on 256 made-up sentences ("The food is lovely and the music is awful.") whose
label says whether the second thing is liked. Words alone do not tell: it matters which belongs to
which. Needs the extras `extract`, `demo` and `viz`; a minute on two cores. Writes token_graph.svg
beside this file, and prints the weights that it draws.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Arc

import glot_jax
from glot_jax.colours import colours_of

SENTENCE = "The weather is awful but the old harbour is not."
LIKED = ["lovely", "splendid", "charming", "wonderful"]
DISLIKED = ["awful", "dreadful", "ugly", "horrible"]
THINGS = ["weather", "harbour", "food", "music", "garden", "hotel", "beach", "street"]
POOLERS = ("adapool", "glot")
TAU = 0.3
PICTURE = Path(__file__).with_name("token_graph.svg")


def sentences(count: int, seed: int) -> list[dict[str, str]]:
    """Rows {text, label}; none has the words of SENTENCE's second half."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        first, second = draw.choice(THINGS, 2, replace=False)
        good, bad = draw.choice(LIKED), draw.choice(DISLIKED)
        is_liked = bool(draw.integers(2))
        one, other = (bad, good) if is_liked else (good, bad)
        text = f"The {first} is {one} and the {second} is {other}."
        rows.append({"text": text, "label": "liked" if is_liked else "disliked"})
    return rows


def trained_weights(work: Path) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """The tokens of SENTENCE, their cosines, and the weight of each by pooler."""
    data = work / "data"
    data.mkdir()
    for seed, (split, count) in enumerate({"train": 256, "validation": 64}.items()):
        lines = [json.dumps(row) + "\n" for row in sentences(count, seed)]
        (data / f"{split}.jsonl").write_text("".join(lines))
    store = glot_jax.extract(
        backbone="minilm",
        data=data,
        text_columns=["text"],
        label_column="label",
        out=work / "store",
    )
    for pooler in POOLERS:
        glot_jax.train(
            store=store,
            out=work / pooler,
            pooler=pooler,
            epochs=12,
            tau=TAU,
            hidden_dim=64,
            lr=2e-3,
            quiet=True,
        )
    backbone = glot_jax.SentenceEncoder.load(work / "glot").backbone
    # A run that train.py made has one.
    assert backbone is not None
    sentence = backbone.encode([SENTENCE])
    hidden, mask = sentence.padded()
    tokens = backbone.tokenizer.convert_ids_to_tokens(sentence.token_ids[0])
    unit = hidden[0] / np.linalg.norm(hidden[0], axis=-1, keepdims=True)
    weights = {}
    for pooler in POOLERS:
        model = glot_jax.load_model(work / pooler)
        graph = model.stem(jnp.asarray(hidden), jnp.asarray(mask))
        weights[pooler] = np.asarray(model.pooler.token_weights(graph))[0]
    return tokens, unit @ unit.T, weights


def draw_arcs(axis: Axes, cosines: np.ndarray) -> None:
    """An arc for each pair of linked tokens, the darker the more alike they are."""
    length = len(cosines)
    for first in range(length):
        for second in range(first + 1, length):
            cosine = cosines[first, second]
            if cosine <= TAU:
                continue
            strength = (cosine - TAU) / (1 - TAU)
            arc = Arc(
                ((first + second) / 2, 0),
                second - first,
                0.9 * (second - first),
                theta1=0,
                theta2=180,
                color=plt.cm.Greys(0.25 + 0.7 * strength),
                linewidth=0.6 + 2.4 * strength,
            )
            axis.add_patch(arc)
    axis.set(xlim=(-0.6, length - 0.4), ylim=(0, 0.46 * (length - 1)))
    axis.axis("off")
    axis.set_title(
        f"Which tokens listen to each other: cosine above {TAU}, darker is more alike",
        fontsize=10,
    )


def draw_weights(axis: Axes, tokens: list[str], weights: dict[str, np.ndarray]) -> None:
    """A bar for each token and pooler: the share of the token in the sentence vector."""
    colours = colours_of(weights)
    width = 0.38
    places = np.arange(len(tokens))
    for number, (name, values) in enumerate(weights.items()):
        offset = (number - 0.5) * width
        axis.bar(places + offset, values, width, color=colours[name], label=name)
        for place, value in zip(places + offset, values, strict=True):
            if value >= 0.1:
                text = f"{value:.2f}".lstrip("0")
                axis.text(place, value + 0.03, text, ha="center", va="top", fontsize=10)
    axis.xaxis.tick_top()
    axis.tick_params(axis="x", length=0)
    axis.set_xticks(places, tokens, fontsize=10.5)
    # Downwards, so that the words stand between the arcs and the bars.
    axis.set(xlim=(-0.6, len(tokens) - 0.4), ylim=(1.15, 0), yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)
    axis.legend(
        title="How much each token counts in the sentence vector",
        title_fontsize=10,
        loc="lower right",
        ncols=len(weights),
        frameon=False,
        fontsize=10,
        # Between the two tokens that have bars, and below the words.
        bbox_to_anchor=(1, 0.05),
    )


def draw(tokens: list[str], cosines: np.ndarray, weights: dict[str, np.ndarray]) -> None:
    """Write PICTURE, the same bytes whenever it is drawn from the same numbers."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.6, 4.6), height_ratios=[1.1, 1], layout="constrained"
    )
    draw_arcs(top, cosines)
    draw_weights(bottom, tokens, weights)
    # A background of its own: pages may be dark.
    figure.set_facecolor("white")
    with mpl.rc_context({"svg.hashsalt": "glot-jax"}):
        figure.savefig(PICTURE, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    """Train, draw and print."""
    with tempfile.TemporaryDirectory() as work:
        tokens, cosines, weights = trained_weights(Path(work))
    draw(tokens, cosines, weights)
    for pooler, values in weights.items():
        shares = [f"{token} {value:.2f}" for token, value in zip(tokens, values, strict=True)]
        print(pooler, " ".join(shares))
    print(PICTURE, file=sys.stderr)


if __name__ == "__main__":
    main()
