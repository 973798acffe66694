"""The history: closed flows and ownership intervals, stored in one SQLite file.

    engine's thread                 history's thread                    threads of readers
                                    (``HistoryWriter``)                 (``HistoryReader``)

    freed rows ──────────► queue ──► blocks of columns ──► SQLite (WAL) ──► blocks that may match ──► answers
    ownership intervals ─┘ bounded   one row per block

Flows are stored as columns, some thousands per block, so the work per flow is done by numpy. SQLite stores each block
completely or not at all. Only this room opens the file.
"""
