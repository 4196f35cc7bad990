"""The commands of `sngd`, each a function of its arguments that returns the exit code."""
