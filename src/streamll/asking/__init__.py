"""A run asks a person and waits: questions, answers, approvals of tool calls.

``questions`` has what is open in this process and is plain threads and futures; ``answers`` says what an
answer may be; ``ask`` and ``approve`` are what programs call.
"""
