"""Buckets for the tests of this folder."""

from support.object_stores import bucket, moto_server, own_cache, s3

__all__ = ["bucket", "moto_server", "own_cache", "s3"]
