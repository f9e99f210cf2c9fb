"""What a network holds and does: `explain`, statistics of its spikes, weights for a wanted rate."""
