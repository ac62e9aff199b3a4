"""Annotation files of the public tests of dialogue models, which all become conversations about videos."""
