"""Compiled programs, kept on disk for the next process: JAX's persistent compilation cache.

    trust.py     who may write to a folder, and so run code here
    machine.py   what the programs of a folder were compiled for
    programs.py  the files: whole or not there, checked by a hash, bounded
    jax_paths.py how JAX comes to read and write them
    hits.py      how many programs were read instead of compiled

The commands switch it on. Importing this package does not, and neither does training from Python:
`glot_jax.use_compile_cache()` is for those who want it there.
"""

from glot_jax.compile_cache.hits import hits, hits_of_thread
from glot_jax.compile_cache.switch import folder_in_use, machine_folder, use_compile_cache

__all__ = ["folder_in_use", "hits", "hits_of_thread", "machine_folder", "use_compile_cache"]
