"""Numbers out of runs: a pandas table of them, and the scores of a report as CSV and LaTeX."""

from __future__ import annotations
