"""The command line: ``streamll demo``, ``streamll run``, ``streamll practice``.

Each command is a file; ``main`` declares their options and turns what went wrong into one line
and an exit code. dspy is imported only by a command that runs a program.
"""
