"""What runs on a GPU: its memory, the way of the weights into it, and the engine's passes there."""
