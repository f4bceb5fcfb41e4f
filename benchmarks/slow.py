"""Which mappers are slow; a module of its own, as the command line needs it before anything heavy is imported."""

__all__ = ["FEWEST_EPOCHS", "SLOW_MAPPERS"]

# They take minutes a fit.
SLOW_MAPPERS = ("icis-paper",)
# Before its 25th epoch the published recipe's stopping rule cannot hold: what is measured on so many is a lower bound of its time.
FEWEST_EPOCHS = 25
