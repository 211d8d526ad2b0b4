"""From a configuration to answers: what to ask, the pictures to show, and the asking."""
