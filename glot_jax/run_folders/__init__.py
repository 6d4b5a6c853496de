"""What training leaves on the disk: settings, logs, predictions, checkpoints.

`run_folder` reads them together. `run_files` looks at a folder without an import of jax.
"""
