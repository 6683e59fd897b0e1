"""Building blocks without a view of the method: layers, distributions, returns."""
