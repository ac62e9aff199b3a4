"""Stages of InternVideo 1 that no other family has."""
