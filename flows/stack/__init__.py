"""The servers and workers of this project on one machine: started, looked at and ended together."""
