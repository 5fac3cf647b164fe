"""SQLite 3.24 or newer: a log in a file, for the processes of one machine. Nothing to install.

One table has the entries in the order of their arrival; ``id`` is the cursor. In write-ahead mode
(https://www.sqlite.org/wal.html) readers and the writer never wait for each other. While the file is
written to, readers look for new entries every few milliseconds (``PRAGMA data_version``). Otherwise
they sleep until a write wakes them (``writes``); where that cannot be heard of, they go on looking, five
times a second after a while.

A commit survives the process, however that ends. With ``synchronous="FULL"`` it survives a power
cut too, at the price of waiting for the disk.

Which entries are a run's is recorded for many at once, in a table of its own (``run_index``). Groups
use two more: how far the group has read, and which member holds which entry since when.
"""
