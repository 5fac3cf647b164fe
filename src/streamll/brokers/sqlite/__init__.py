"""SQLite: a log in a file, for any number of processes of one machine. Nothing to install or run.

One table of entries in the order of their arrival; ``id`` is the cursor. Write-ahead logging, so
that readers and the writer never wait for each other. Readers look for news every few
milliseconds, which costs a few microseconds while there is none (``PRAGMA data_version``).

A commit survives the end of the process, however it ends. It survives a power cut too with
``synchronous="FULL"``, at the price of waiting for the disk.

Where a run's entries are is put down for many at once, in a table of its own (``runs``).
Groups share a log through two more tables: how far the group has read, and who works on what.
"""
