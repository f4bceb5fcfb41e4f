"""How fast the package is, measured against what one would run instead."""
