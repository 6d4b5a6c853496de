"""Fixtures of tests about frozen models."""

from support.backbone_fixtures import folders, llama, llama_copy

__all__ = ["folders", "llama", "llama_copy"]
