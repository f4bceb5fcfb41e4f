"""The command as a module: `python -m timm_inject.cli`, for launchers that start modules."""

import sys

from timm_inject.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
