"""One colour for each variant, on a whole page and in the notebooks."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

# Okabe-Ito first, then Tol's muted ones: distinguishable without colour vision.
_OWN = {
    "glot": "#D55E00",
    "mean": "#0072B2",
    "adapool": "#009E73",
    "mlp": "#CC79A7",
    "max": "#56B4E9",
    "cls": "#E69F00",
    "eos": "#882255",
    "pma": "#44AA99",
    "latent-attention": "#AA4499",
    "weighted-mean": "#999933",
}
"""Poolers keep theirs from page to page."""
_FURTHER = (
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#44AA99",
    "#AA4499",
    "#999933",
    "#661100",
    "#6699CC",
    "#888888",
)
"""For everything else, in the order in which it comes; without those of glot and mean, which are
drawn beside any runs.
"""
_GOLDEN = 0.61803398875  # of the circle: hues that follow one another are far apart


def colours_of(names: Iterable[str], ours: str | None = None) -> dict[str, str]:
    """A colour for each name, `#rrggbb`, no two alike.

    Args:
        names: of variants, in the order in which they are shown; a repeat counts once.
        ours: the one that has glot's colour where none is called glot.
    """
    names = list(dict.fromkeys(names))
    colours: dict[str, str] = {}
    for name in names:
        if name in _OWN:
            colours[name] = _OWN[name]
    if ours in names and "glot" not in names and ours not in colours:
        colours[ours] = _OWN["glot"]
    taken = {*colours.values(), _OWN["glot"], _OWN["mean"]}
    free = [colour for colour in _FURTHER if colour not in taken]
    number = 0
    for name in names:
        if name in colours:
            continue
        if free:
            colours[name] = free.pop(0)
            continue
        # More variants than anybody tells apart by colour: still no two alike.
        colour = _generated(number)
        while colour in colours.values() or colour in taken:
            number += 1
            colour = _generated(number)
        colours[name] = colour
        number += 1
    # In the order of the names, whichever of them have colours of their own.
    return {name: colours[name] for name in names}


def _generated(number: int) -> str:
    # Two lightnesses, so that neighbours on the circle differ in more than their hue.
    lightness = 0.35 if number % 2 else 0.55
    parts = colorsys.hls_to_rgb(
        number * _GOLDEN % 1,
        lightness,
        0.6,
    )
    return "#" + "".join(f"{round(255 * part):02X}" for part in parts)
