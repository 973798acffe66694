"""flowmap: which Flink job is behind this network connection?"""

__all__ = ["__version__"]

__version__ = "0.1.0"
