"""Fixtures of tests about files and tasks."""

from support.task_fixtures import load

__all__ = ["load"]
