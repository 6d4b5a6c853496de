"""The code in docs/ that makes the site and checks its commands: no package of ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


def site_module(name: str) -> ModuleType:
    """`generate.commands`, `check` and so on, as MkDocs and make find them."""
    if str(DOCS) not in sys.path:
        # Behind everything: no module of a test is hidden by one of the site.
        sys.path.append(str(DOCS))
    return importlib.import_module(name)
