"""Where JAX meets other frameworks' files: the only stage in which a head and PyTorch may stand
side by side.
"""
