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
        "At most 64 levels and 100,000 values, aliases counted with all they stand for, long texts as several.",
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
    "Y113": (
        "a comment that may be part of a text",
        "In YAML ` #` begins a comment. Put the whole value in quotes, or write it as a block after '|'.",
    ),
    "C201": ("a required key is missing", "Add the key; `llmpipe schema` documents every one."),
    "C202": ("a value of the wrong type", "The message says what is wanted and what stands there."),
    "C203": ("an unknown key", "Mind the suggestion; the note lists the keys that are allowed there."),
    "C204": ("a value outside of what is allowed", "The message says what is allowed."),
    "C205": (
        "keys that exclude each other, or none of them",
        "A step does exactly one thing: `prompt`, `prompt_file`, `messages`, `render` or `python`.",
    ),
    "C206": ("a name that stands twice", "Step ids are unique; a list of models names each of them once."),
    "C207": ("a key without effect", "Remove it: this kind of step does nothing with it."),
    "C210": (
        "a name that is not defined",
        "Templates know `item`, `key`, `parent`, `vars` and `steps`; checks and columns know `output` as well.",
    ),
    "C212": ("there is no such step", "Mind the suggestion; the note lists the steps."),
    "C213": ("there is no such dataset", "Declare it under `datasets`, or mind the suggestion."),
    "C214": ("there is no such var", "Declare it under `vars`, or mind the suggestion."),
    "C215": ("there is no such model", "Declare it under `models`, or mind the suggestion."),
    "C216": ("steps that wait for each other", "Break the circle that is named: no step can use its own results."),
    "C217": (
        "a field that is not there",
        "The schema of that step, or the columns of that dataset, have no such field. Mind the suggestion.",
    ),
    "C218": (
        "a list used as one result",
        "From another scope a step is the list of its results: loop over it with {% for row in steps.x %}.",
    ),
    "C219": ("nothing to run over", "`foreach` wants a dataset, a step, a list in an output, or a list under `vars`."),
    "C220": ("a --var that cannot be used", "Declare it under `vars`; write NAME=VALUE, or NAME=@FILE."),
    "C221": ("a required var has no value", "Pass --var NAME=VALUE, or give the var a default."),
    "C222": ("a var of the wrong type", "The note names the place where the var is declared."),
    "C223": (
        "an include that cannot be followed",
        "Included files hold vars, models, defaults and datasets, no steps; two of them may not define one name.",
    ),
    "C224": (
        "a --set that cannot be used",
        "Write PATH=VALUE with a path that the file could have, as models.fast.model=x.",
    ),
    "C225": ("two pipelines of one name", "Both would write to one folder under output/: give one another `name`."),
    "C226": ("a name that a pipeline cannot have", "It becomes a folder under output/; the note says what is allowed."),
    "C227": ("a schema that cannot be used", "Mend the JSON Schema at the place that is named."),
    "C229": (
        "a budget that cannot be kept",
        "A budget of usd or tokens needs a bound for each answer, params.max_output_tokens; one of usd a known price.",
    ),
    "C231": (
        "text that is used with a number or a boolean",
        "Cells of CSV, TSV and lines are text, which never equals a number: convert it, or name its column's type.",
    ),
    "C230": ("a dataset that nothing uses", "Use it in a `foreach`, or remove it."),
    "C233": (
        "a prompt that is the name of a file",
        "Text under `prompt` is sent as it is. Name a file with `prompt_file`.",
    ),
    "C234": (
        "a prompt that uses nothing of its item",
        "Every item would be asked the same. Write {{ item.NAME }} where a column belongs; other braces are text.",
    ),
    "C250": (
        "Python code that cannot be loaded",
        "`python: module:function` names a function of a module in the project.",
    ),
    "C251": ("a Python step without permission", "Pass --allow-python if you trust the pipeline and its code."),
    "C228": (
        "a path that leads out of the project",
        "Files are read inside the project only, symlinks resolved. Name further folders with --allow-read DIR.",
    ),
    "C240": ("a template, expression or schema that cannot be read", "Mend the place that is named."),
    "C241": ("a template statement that is not available", "Templates cannot include, import or extend other files."),
    "C242": ("an unknown filter or test in a template", "Mind the suggestion."),
    "C243": ("a call that templates do not offer", "Templates call filters (`| length`) and no methods of the data."),
    "D301": ("a file that is not there", "Check the path: it is relative to the pipeline file."),
    "D302": ("a row that is torn or not what its format asks for", "Mend the line that is named."),
    "D303": ("a dataset in another encoding", "Save it as UTF-8, or name its `encoding` under `datasets`."),
    "D304": (
        "rows of a wrong kind, or standard input twice",
        "Every row is an object of named values; only one dataset can read standard input.",
    ),
    "D305": ("a key that comes twice", "`key` names each row once: mend the data, or name another column."),
    "D306": ("a row without a key", "Each row needs text or a whole number in the column that `key` names."),
    "D307": (
        "a table whose columns do not fit",
        "Check the separator, the header and the quotes in the line that is named.",
    ),
    "D308": (
        "a value that cannot be kept as it is",
        "Rows hold text, true, false, null, lists, objects, and numbers that a 64-bit float keeps; quote longer ones.",
    ),
    "D309": ("a row or file that is too large", "Split it, or keep the large text in a file of its own."),
    "D311": (
        "a rendered prompt is too large",
        "Nothing is cut silently: raise `max_prompt`, or split the text with `foreach: {split: ...}`.",
    ),
    "D312": (
        "a null would be written into a text",
        "Guard it in the template, as in {{ item.name or 'nobody' }}: a prompt that says None misleads the model.",
    ),
    "D316": (
        "a cell that is not of its column's type",
        "Mend the cell, or change the column's type under `types` of the dataset; numbers are written as in JSON.",
    ),
    "D313": ("a template failed on an item", "Look at the item with `llmpipe show RUN STEP KEY`."),
    "D314": ("an `if` or `check` that is neither true nor false", 'Compare the value, as in `output.urgent == "yes"`.'),
    "D315": ("an expression took too much", "Simplify it: templates have a bound on work and memory."),
    "D320": (
        "what a step runs over is not there",
        "The output that it fans out has no such list or text, or `by` fails for it.",
    ),
    "D330": ("a Python step raised an exception", "The failure file holds its traceback."),
    "D331": (
        "a Python step returned what JSON cannot hold",
        "Return dicts with text keys, lists, text, numbers, None.",
    ),
    "D332": ("a Python step took too long", "Raise `timeout.attempt` of the step."),
    "P409": (
        "a proxy or a file of certificates that cannot be used",
        "Mend the variable that is named; proxies are http:// or https://, certificates a PEM file.",
    ),
    "P451": ("there is no such provider", "`llmpipe providers` lists them; another one may be `openai_compatible`."),
    "P452": (
        "an address that cannot be used",
        "Set base_url to the address of the interface, https unless it is on this machine.",
    ),
    "P453": (
        "a key that is not sent there",
        "A key goes to its own provider only: name another variable with `api_key_env`.",
    ),
    "P454": (
        "a variable that holds no API key",
        "Only variables named like keys (..._API_KEY, ..._TOKEN) are ever sent.",
    ),
    "P455": (
        "a secret in the pipeline file",
        "Put the key into the environment or into .env and name its variable with `api_key_env`.",
    ),
    "P456": (
        "a header or variable that may not be set",
        "Keys come from `api_key_env`; .env gives keys, never addresses, hosts or proxies.",
    ),
    "P457": (
        "a way to ask for a schema that the provider does not have",
        "Leave `schema_mode` out, or use one that is named.",
    ),
    "P458": ("a parameter that the provider does not take", "Remove it; what is new goes into `extra`."),
    "P459": ("limits that contradict each other", "Two models with one key and one model id share their limits."),
    "O521": ("two outputs write one file", "Give each its own path."),
    "O522": (
        "the format of an output is not known",
        "End the path in .csv, .tsv, .jsonl, .json, .txt or .md, or set `format`.",
    ),
    "O523": (
        "a place that is not for results",
        "Outputs are written inside the project, never among runs or over what the project is made of or reads.",
    ),
    "O524": (
        "an output that could not be written",
        "The folder under `outputs` cannot be written by whoever runs this. Get the right, or change the path.",
    ),
    "O526": (
        "a text that a published file cannot hold",
        "Half of a surrogate pair is no character. Change what makes the text, then continue with --resume.",
    ),
}
