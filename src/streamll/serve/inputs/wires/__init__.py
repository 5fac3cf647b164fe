"""The messages of each wire, read into one shape. No I/O, no programs.

A part that means something to the user and cannot be read is refused with its place. What a client
keeps of the assistant's own doing (thinking, steps, sources) is left where it is.
"""
