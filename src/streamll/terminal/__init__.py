"""What a run looks like on a terminal: events in, lines out.

``lines`` writes one line per event. ``tree`` keeps a run as a tree, ``drawing`` and ``layout`` draw
that tree within a given width and height, ``screen`` owns the rows at the bottom of the terminal,
``live`` ties these together. Nothing here knows sinks, channels or dspy.
"""
