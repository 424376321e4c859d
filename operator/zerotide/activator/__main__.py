"""Run the activator: `python -m zerotide.activator --help`."""

from zerotide.activator.main import main

main()
