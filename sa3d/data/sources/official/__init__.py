"""What the sources of public data sets share: lists, files, parsers, and the way to the output."""
