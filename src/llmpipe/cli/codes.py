"""The codes of problems that are no error class of their own: what each means and what to do about it."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "Y101": ("the file is not UTF-8", "Save the file as UTF-8; the message names the line of the first wrong byte."),
    "Y102": (
        "the file is too large",
        "A pipeline file holds at most 1 MiB. Keep rows in a dataset and long prompts in `prompt_file`.",
    ),
    "Y103": ("the text is not YAML", "Mend the place under the caret; most often it is an indentation or a quote."),
    "Y104": (
        "a key stands twice",
        "YAML keeps only one of two equal keys, so one of the two would be lost silently. Remove one.",
    ),
    "Y105": ("a key is not text", "Quote the key: `no`, `1` and `true` stand for a truth value or a number."),
    "Y106": (
        "an alias or merge key that cannot be followed",
        "An alias `*x` needs an anchor `&x` above it. `<<` is not part of YAML 1.2: use `defaults` or `include`.",
    ),
    "Y107": (
        "the document is too deep or too large",
        "At most 64 levels and 100,000 values, aliases counted with all they stand for.",
    ),
    "Y108": ("a YAML tag", "Tags such as `!x` have no meaning here. Quote the value if it is text."),
    "Y109": (
        "an unquoted value that YAML reads as something else",
        "Quote the whole value, or write it as a block after '|': it begins with {{ or a quote, or holds ': '.",
    ),
    "Y110": (
        "the document has the wrong form",
        "A pipeline file is one mapping; a dataset in YAML is one list of rows.",
    ),
    "Y111": ("a number that is none", "Quote the value if it is text."),
    "Y112": ("the file cannot be read", "Check the path and the permissions."),
    "C201": ("a required key is missing", "Add the key; `llmpipe schema` documents every one."),
    "C202": ("a value of the wrong type", "The message says what is wanted and what stands there."),
    "C203": ("an unknown key", "Mind the suggestion; the note lists the keys that are allowed there."),
    "C204": ("a value outside of what is allowed", "The message says what is allowed."),
    "C205": (
        "keys that exclude each other, or none of them",
        "A step does exactly one thing: `prompt`, `prompt_file`, `messages`, `render` or `python`.",
    ),
    "C228": (
        "a path that leads out of the project",
        "Files are read inside the project only, symlinks resolved. Name further folders with --allow-read DIR.",
    ),
    "C240": ("a template or expression that cannot be read", "Mend the place under the caret."),
    "C241": ("a template statement that is not available", "Templates cannot include, import or extend other files."),
    "C242": ("an unknown filter or test in a template", "Mind the suggestion."),
    "C243": ("a call that templates do not offer", "Templates call filters (`| length`) and no methods of the data."),
    "D301": ("a file that is not there", "Check the path: it is relative to the pipeline file."),
    "D311": (
        "a rendered prompt is too large",
        "Nothing is cut silently: raise `max_prompt`, or split the text with `foreach: {split: ...}`.",
    ),
    "D312": ("a check that cannot be evaluated", "Look at the expression and at the output it was given."),
    "D313": ("a template failed on an item", "Look at the item with `llmpipe show RUN STEP KEY`."),
    "D314": ("an `if` or `check` that is neither true nor false", 'Compare the value, as in `output.urgent == "yes"`.'),
    "D315": ("an expression took too much", "Simplify it: templates have a bound on work and memory."),
    "D330": ("a Python step raised an exception", "The failure file holds its traceback."),
    "D331": (
        "a Python step returned what JSON cannot hold",
        "Return dicts with text keys, lists, text, numbers, None.",
    ),
    "D332": ("a Python step took too long", "Raise `timeout.attempt` of the step."),
    "P408": ("a key that cannot be sent", "The variable holds characters that no key has, a line break for one."),
    "P409": ("a proxy that cannot be used", "Mend the proxy variable that is named; http:// and https:// are known."),
    "P455": (
        "a secret in the pipeline file",
        "Put the key into the environment or into .env and name its variable with `api_key_env`.",
    ),
    "P461": ("the run was stopped before this was sent", "Continue with --resume."),
}
