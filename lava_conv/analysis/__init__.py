"""What a network does: comparison of backends, activity, early exit, settling."""
