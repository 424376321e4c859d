"""Run the operator: `python -m zerotide.controller`."""

from zerotide.controller.main import main

raise SystemExit(main())
