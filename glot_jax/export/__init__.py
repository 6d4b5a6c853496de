"""A trained run as a folder, a file or a repository that software without this package reads.

The first three carry the head of the task where it is asked for, the fourth always.

| module | what it writes |
| --- | --- |
| `st_folder` | a folder for sentence-transformers, with `glot_pooling` and the files beside it |
| `onnx_file` | stem and pooler as one ONNX file |
| `stablehlo` | stem and pooler as a program of `jax.export` |
| `bare_parameters` | the arrays as safetensors, the settings as JSON |
| `hub` | the folder as a repository on the Hub |
"""

from glot_jax.errors import extra_of

with extra_of("extract", "an export"):
    from glot_jax.export.bare_parameters import export_parameters
    from glot_jax.export.hub import export_hub
    from glot_jax.export.onnx_file import export_onnx
    from glot_jax.export.st_folder import export_sentence_transformers
    from glot_jax.export.stablehlo import export_stablehlo

__all__ = [
    "export_hub",
    "export_onnx",
    "export_parameters",
    "export_sentence_transformers",
    "export_stablehlo",
]
