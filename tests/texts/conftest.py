"""Fixtures of tests about files and tasks."""

from support.task_fixtures import custom, labelled, load

__all__ = ["custom", "labelled", "load"]
