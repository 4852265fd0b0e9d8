"""The countermeasure: XLS-R, the SLS classifier, and the files that hold their weights."""
