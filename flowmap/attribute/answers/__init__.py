"""Answers of the control plane over time, and which flows they count for."""
