"""`python -m glot_jax ...` is `glot ...`."""

from glot_jax.cli import main

if __name__ == "__main__":
    main()
