"""Every token, field, step and error of a running DSPy program: live, once and in order."""
