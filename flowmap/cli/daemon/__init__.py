"""Commands that run a daemon or talk to one about itself."""
