"""luntrex-proxy: a reverse proxy daemon for language-model APIs that keeps nothing of what was said."""

__version__ = "0.1.0"
