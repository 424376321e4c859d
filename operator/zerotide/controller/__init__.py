"""The operator process: caches in, plans out.

kopf brings the endpoints (handlers.py, settings.py, main.py alone know it), own watches bring everything else. Both
only fill caches and queue keys; workers take a key, observe, steer, plan and carry out. Everything that is decided
is decided by the pure packages.
"""
