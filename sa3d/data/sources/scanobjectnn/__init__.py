"""ScanObjectNN: scanned objects of 15 classes, in three variants."""
