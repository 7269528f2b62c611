"""THE CHOICES: from YAML, environment variables and secret files to one frozen, checked `Settings`."""
