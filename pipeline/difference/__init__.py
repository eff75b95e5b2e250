"""A frame minus what the references say it should be: register, match, subtract, filter, flatten. Pure."""
