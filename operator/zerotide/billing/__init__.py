"""What a replica cost, and who pays: facts about pods and requests are folded into segments and rated.

Everything here is pure: integers of microseconds since the Unix epoch in, exact fractions of money out. Facts form a
grow-only set with deterministic keys, so replays, duplicates and several writers change nothing. Start with `facts`
(what is recorded), `fold` (how it becomes segments), `rating` (how segments become money) and `reports` (the answers).
"""
