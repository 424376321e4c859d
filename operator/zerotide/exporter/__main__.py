"""Run the exporter: `python -m zerotide.exporter`."""

from zerotide.exporter.main import main

main()
