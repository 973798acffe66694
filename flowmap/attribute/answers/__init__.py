"""Answers of the control plane over time, and what they say about flows."""
