"""Fixtures of tests about training."""

from support.store_fixtures import stores

__all__ = ["stores"]
