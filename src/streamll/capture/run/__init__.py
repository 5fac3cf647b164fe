"""A captured call: its scope, the run that orders its events, and what its calls are named.

``enter.captured`` is where one begins and ends; ``run.Run.publish`` is where every event is made.
"""
