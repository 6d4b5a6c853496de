"""No network, no accelerator; and the shapes that annotations promise are checked."""

import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Thousands of tiny programs are compiled once and run once.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The same steps are compiled by many tests, in several processes: each is compiled once and read back.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"glot-jax-tests-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
sys.path.insert(0, str(Path(__file__).parent))

from jaxtyping import install_import_hook

# Only the pure middle has shapes to check; the rest is checked by pyright.
install_import_hook(["glot_jax.graphs", "glot_jax.pooling", "glot_jax.objectives"], "beartype.beartype")
