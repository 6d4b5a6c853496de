"""transformers leaves packages alone that a command has no use for; the process still has them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from glot_jax.backbone_files.unseen_packages import leave_out
leave_out()
from transformers.utils import is_scipy_available, is_sklearn_available
assert not is_scipy_available() and not is_sklearn_available()
assert "scipy" not in sys.modules
# Hidden from transformers, and from nobody else.
import scipy.special
assert scipy.special.expit(0.0) == 0.5
"""
LOADED = """
import scipy.special
from glot_jax.backbone_files.unseen_packages import leave_out
leave_out()
import sys
assert sys.modules["scipy"] is scipy
"""


def test_what_transformers_takes_for_missing_can_be_imported():
    subprocess.run([sys.executable, "-c", CODE], check=True)


def test_what_is_loaded_stays():
    subprocess.run([sys.executable, "-c", LOADED], check=True)
