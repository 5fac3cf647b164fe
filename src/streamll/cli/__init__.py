"""The command line: ``streamll demo``, ``streamll run``, ``streamll practice``.

Each command is a function with its options as annotations; ``main`` lists
them, and ``command`` has what they share. dspy is imported only by a command that runs a program.
"""
