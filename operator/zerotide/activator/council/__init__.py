"""Several activators that act as one: each endpoint's line is kept by one of them, its owner.

`messages` is what they say to each other, `membership` who they are and who owns what; `owner` keeps a line for all,
`desk` is a gate's side of it at the others; `council` gives every endpoint its part and its bounds while somebody
cannot be reached. None of these does input or output: `links` carries the messages.
"""
