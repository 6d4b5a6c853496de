"""Fixtures of tests about frozen models."""

from support.backbone_fixtures import data, folders, loud, make

__all__ = ["data", "folders", "loud", "make"]
