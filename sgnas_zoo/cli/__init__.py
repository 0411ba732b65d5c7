"""The command line: a module a group of commands; ``main`` has them all."""
