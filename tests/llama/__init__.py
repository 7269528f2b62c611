"""A real llama.cpp server on a tiny random model that the tests make in seconds."""
