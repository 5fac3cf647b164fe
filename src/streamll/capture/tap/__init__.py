"""The tap: reads an LM's reply while it arrives, and gives DSPy the same reply in the end."""
