"""The version, in one place: packaging, records and model cards read it."""

__version__ = "0.4.0"
