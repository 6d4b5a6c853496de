"""Fixtures of tests about frozen models."""

from support.backbone_fixtures import bert, bert_copy, folders, loud

__all__ = ["bert", "bert_copy", "folders", "loud"]
