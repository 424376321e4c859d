"""Pure decisions about requests: no I/O, no clock, no randomness.

In the order in which a request meets them: `callers` (who is it), `naming` and `catalogue` (which endpoint),
`payload` (what is asked), `gate` (may it go, wait, or not), `waits` (for how long), `estimate`
(when a retry can succeed). `profile` is what of an endpoint matters to them, `waking` when it must be asked to wake,
`shares` this activator's part of a common bound.
"""
