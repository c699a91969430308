"""``python -m kinematics_nn``: the command line, also for what starts Python modules, such as ``torchrun -m``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
