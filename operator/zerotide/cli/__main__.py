"""Run the command as `python -m zerotide.cli`."""

import sys

from zerotide.cli.main import main

sys.exit(main())
