"""The XLS-R + SLS spoofing countermeasure: training, scoring and evaluation as tracked runs."""
