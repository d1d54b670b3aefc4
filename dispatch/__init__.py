"""From the journal to the console: a site decides what each report means, and the queue holds what needs a person."""
