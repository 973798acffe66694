"""Environment variables that stand for options."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


ENVIRONMENT = {
    # numpy's tables are made for the most there may be and mostly never touched: in huge pages every first touch would
    # cost 2 MiB, and nothing is faster for it.
    "NUMPY_MADVISE_HUGEPAGE": "0",
    # Nor does anything here multiply matrices. Its idle threads would keep the privileges they were started with.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


"""What numpy reads when it is imported; goes before what the user has set, since threads keep privileges."""
