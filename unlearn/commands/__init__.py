"""The words of the command line, one module each."""

COMMANDS = {
    "run": "erase a concept, attack what is left, measure and report it",
    "list": "what there is: methods, attacks, metrics, models, detectors, concepts, resurgence",
    "show": "one of these with its settings and what they mean",
    "check": "whether every configuration in conf/ describes something that can run",
    "report": "the report of a run, or the comparison of several",
    "export": "the erased model of a run as a diffusers folder",
    "generate": "images for your own prompts, from the original or an erased model",
    "clean": "what the outputs hold, and the removal of what is no longer needed",
    "new": "a method, attack, metric or concept of your own to begin with: its file, its YAML and a test",
    "completion": "completion of commands and settings in your shell",
}
"""Each word, in the order of the help, and what it does; the module of that name holds the rest."""

KINDS = ("method", "attack", "metric", "concept")
"""What ``unlearn new`` can begin."""
