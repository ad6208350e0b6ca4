"""Text in, frozen objects out: pipeline files, templates, datasets and the environment, parsed once."""
