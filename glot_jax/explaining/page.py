"""An explanation as one HTML page: no server, no address, everything inside.

Strings of the data come in as JSON that holds no `<`, and are shown as text nodes. A policy in the
page lets the browser run its one script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.explaining.explanation import SCOPE, Explanation, TextExplanation
from glot_jax.files import write_bytes

_HERE = Path(__file__).parent


def write_page(path: Path, explanations: Sequence[Explanation]) -> None:
    """Write the page of some explanations, whole or not at all.

    Raises:
        UsageError: a path that cannot be written.
    """
    write_bytes(path, to_html(explanations).encode())


def to_html(explanations: Sequence[Explanation]) -> str:
    """The page of some explanations."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    data = {"explanations": [_with_pairs(explanation) for explanation in explanations]}
    run = ""
    if explanations:
        head = explanations[0].head
        run = f"{head.run}: {head.pooler} on states of {head.backbone}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Explanation</title><style>{style}</style></head>",
            "<body><h1>Which tokens decided</h1>",
            f'<p class="soft">{html.escape(run)}</p>',
            '<main id="explanations"></main>',
            '<p class="soft">Orange speaks for the prediction, blue against it. A token is taken'
            f" out before the graph is built. {html.escape(SCOPE)}</p>",
            f'<script type="application/json" id="data">{inert_json(data)}</script>',
            f"<script>{script}</script></body></html>",
            "",
        ]
    )


def inert_json(values: object) -> str:
    """JSON that ends no element, begins no comment, and is JSON all the same."""
    # ASCII alone: U+2028 ends a line in scripts of older browsers.
    text = json.dumps(values, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _source(content: str) -> str:
    # Of the element's exact text: a browser hashes the same bytes.
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _with_pairs(explanation: Explanation) -> dict[str, Any]:
    values = explanation.to_json()
    for of_text, text in zip(values["texts"], explanation.texts, strict=True):
        of_text.update(_pairs(text))
    return values


def _pairs(text: TextExplanation) -> dict[str, str]:
    """What every pair of tokens has, as base64: float32 cosines, and a byte a link."""
    # Little endian whatever the machine: that is what browsers read on all that are left.
    return {
        "cosines": _encoded(text.cosines.astype("<f4")),
        "links": _encoded(text.links.astype(np.uint8)),
    }


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
