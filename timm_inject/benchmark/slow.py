"""Which mappers are slow; a module of its own, as the command line needs it before anything heavy is imported."""

__all__ = ["SLOW_MAPPERS"]

# They take minutes a fit.
SLOW_MAPPERS = ("icis-paper",)
