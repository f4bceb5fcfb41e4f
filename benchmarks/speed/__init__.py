"""How fast the package is, measured against what one would run instead. `timm-inject benchmark speed`."""
