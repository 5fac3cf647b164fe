"""Where capture holds on to DSPy: what it replaces, the callbacks it hears, the private names it uses.

``patch.install`` puts the hooks on. Everything that a new DSPy can break by changing its inside
is here or in ``tap``.
"""
