"""What the image serves until it has your programs."""

import dspy

qa = dspy.ChainOfThought("question -> answer")
