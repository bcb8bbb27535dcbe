"""From a quantised model to the integer network: affine algebra, exact thresholds, and the check afterwards."""
