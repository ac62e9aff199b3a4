"""Tests of dialogue models: multiple choice, moments in videos, needles in long videos."""
