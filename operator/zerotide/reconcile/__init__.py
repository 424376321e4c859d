"""The pure half of the operator: spec + observed + now -> Plan.

Nothing here reads a clock, a socket or a file. `plan.plan` decides what to create, apply and delete and what the
status says; the modules around it render one child each, explain why a pod does not start, and record wakes.
The shell that executes plans is `zerotide.controller`.
"""
