"""A trained run as a folder, a file or a repository that software without JAX reads.

| module | what it writes |
| --- | --- |
| `st_folder` | a folder for sentence-transformers, with `glot_pooling`, `glot_head`, `glot_graph` |
| `onnx_file` | stem and pooler as one ONNX file |
| `hub` | the folder as a repository on the Hub |
"""

from glot_jax.errors import extra_of

with extra_of("extract", "an export"):
    from glot_jax.export.hub import export_hub
    from glot_jax.export.onnx_file import export_onnx
    from glot_jax.export.st_folder import export_sentence_transformers

__all__ = ["export_hub", "export_onnx", "export_sentence_transformers"]
