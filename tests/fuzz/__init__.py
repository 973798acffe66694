"""Fuzzing by hand: ``python -m tests.fuzz``. Not a part of the test run, which only looks that every target works."""
