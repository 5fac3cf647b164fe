"""What capture replaces in DSPy and below (``places``), and its callback (``callbacks``).

``places.install`` installs everything. Only ``instrument``, ``stream``, ``streamify`` and ``watch``
import this package.
"""
