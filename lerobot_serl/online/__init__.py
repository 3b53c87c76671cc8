"""The learner: replay memory, start-up phases, pacing, and, when a robot collects, the server that actor processes talk to."""
