"""Linear SVM on frozen features."""
