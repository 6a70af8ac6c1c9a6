"""Everything that is made once and shipped: bundles out of checkpoints, the body file."""
