"""Plain masked autoencoder."""
