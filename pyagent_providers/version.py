"""The distribution's version, for both libraries; pyproject.toml reads it from here."""

__version__ = "0.1.0"
