"""The sources of data sets, one file each."""
