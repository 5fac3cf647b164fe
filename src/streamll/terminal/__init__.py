"""What a run looks like on a terminal: events in, lines out.

``plain`` writes one line per event. ``model`` keeps what a run has said so far as a tree,
``layout`` draws that tree into a given width and height, ``screen`` owns the rows at the bottom
of the terminal, ``live`` ties the three together. Nothing here knows sinks, channels or dspy.
"""
