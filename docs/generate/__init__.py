"""Pages that are made from the code: commands, settings, parts, errors, files, notebooks."""
