"""The command of the opener."""
