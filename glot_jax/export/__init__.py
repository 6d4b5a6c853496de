"""A trained run as a folder, a graph or a repository that other tools read."""
