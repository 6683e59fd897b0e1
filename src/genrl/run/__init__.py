"""One file per verb; the only place that chooses devices, directories, clocks and loggers."""
