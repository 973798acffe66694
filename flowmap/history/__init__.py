"""What was true when: flows that are over, and who owned which end, kept in one embedded SQLite file.

    writer's thread            history's thread                         threads of readers
    (engine)                   (``Historian``)                           (``Archive``)

    rows that leave ──► queue ──► blocks of columns ──► SQLite (WAL) ──► blocks that may match ──► answers
    ranges of owners ─┘ bounded    a row a block

Flows are kept as columns, some thousands a block, so what a flow costs is numpy's time and not Python's; SQLite keeps
the blocks, whole or not at all. Nothing but this room opens the file.
"""
