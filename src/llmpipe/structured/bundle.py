"""Brings the files that a schema refers to into one document whose every `$ref` is a pointer into itself.

    label.json   {"$ref": "parts/person.json#/$defs/name"}
        →        {"$ref": "#/$defs/person/$defs/name", "$defs": {"person": {...}}}

Nothing is ever fetched: `http:` and `file:` references are refused, and so are files outside the root (facts C).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from llmpipe.frozen import frozen
from llmpipe.structured.keywords import Dialect, Tokens, children, dialect_of, lookup, parse_pointer, pointer
from llmpipe.structured.problems import SchemaProblem, did_you_mean
from llmpipe.structured.referred import RefusedReference, nearest, plain, read_schema

MAX_FILES = 100


@dataclass(slots=True)
class Resource:
    """One document of the bundle: where it came from, where it stands, and the names in it."""

    contents: dict[str, Any]
    file: Path | None
    folder: Path | None
    prefix: Tokens = ()
    ids: dict[str, Tokens] = field(default_factory=dict)  # URI -> path in `contents`
    anchors: dict[tuple[Tokens, str], Tokens] = field(default_factory=dict)  # (embedded root, name) -> path


@frozen
class Bundle:
    """The one document, what was wrong on the way, and the files that were read for it.

    `written` is the document as it was given, where a `$dynamicRef` is left that no pointer can stand for.
    """

    document: dict[str, Any]
    problems: tuple[SchemaProblem, ...]
    resources: tuple[Resource, ...]
    written: dict[str, Any] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was read for a `$ref`."""
        return tuple(r.file for r in self.resources[1:] if r.file)

    def origin(self, tokens: Tokens) -> tuple[Path | None, str]:
        """The file and pointer that a path of the bundled document came from."""
        for resource in reversed(self.resources):
            if tokens[: len(resource.prefix)] == resource.prefix:
                return resource.file, pointer(tokens[len(resource.prefix) :])
        raise AssertionError("the first resource stands at the root")


def bundle(document: Mapping[str, Any], *, folder: Path | None, root: Path | None) -> Bundle:
    """Resolve every `$ref` of `document` to a pointer into the document that is returned.

    `folder` is where relative references start, `root` the folder that they may not leave (both None: no files).
    `$id` and `$anchor` are resolved and left out of the result, and `$dynamicRef` where it can mean one thing only.
    """
    main = Resource(plain(document), file=None, folder=folder)
    found = _Bundler(main, root, dialect_of(document) or "2020-12").run()
    return replace(found, written=plain(document)) if found.written is not None else found


@frozen
class _Dynamic:
    """A `$dynamicRef`: where it stands, and what it names as long as no other schema is on the way."""

    resource: Resource
    tokens: Tokens
    schema: dict[str, Any]
    reference: str
    owner: Resource
    path: Tokens


def _reference(owner: Resource, path: Tokens) -> str:
    return "#" + quote(pointer((*owner.prefix, *path)), safe="/~!$&'()*+,;=:@")


class _Bundler:
    """Walks the resources and loads further ones as references name them."""

    def __init__(self, main: Resource, root: Path | None, dialect: Dialect) -> None:
        self.dialect = dialect
        self.root = root.resolve() if root else None
        self.resources = [main]
        self.problems: list[SchemaProblem] = []
        self.done: dict[int, dict[str, Any]] = {}  # every schema whose reference was looked at, by identity
        self.dynamic: list[_Dynamic] = []
        self.keep = "definitions" if dialect == "draft-07" else "$defs"

    def run(self) -> Bundle:
        for resource in self.resources:  # grows while it is walked
            self._index(resource)
            self._rewrite(resource, (), resource.contents)
        left = [found for found in self.dynamic if not self._settled(found)]
        for schema in self.done.values():
            for keyword in ("$id", "$anchor", *([] if left else ["$dynamicAnchor"])):
                if isinstance(schema.get(keyword), str):  # anything else is left for the linter to tell about
                    del schema[keyword]
        document = self.resources[0].contents
        for resource in self.resources[1:]:
            resource.contents.pop("$schema", None)
            document.setdefault(self.keep, {})[str(resource.prefix[1])] = resource.contents
        return Bundle(document, tuple(self.problems), tuple(self.resources), document if left else None)

    def _settled(self, dynamic: _Dynamic) -> bool:
        """Make a `$ref` of a `$dynamicRef`, unless what it means depends on the way by which it was reached."""
        owner, path, fragment = dynamic.owner, dynamic.path, dynamic.reference.partition("#")[2]
        target = lookup(owner.contents, tuple(str(token) for token in path))
        moves = isinstance(target, dict) and fragment and target.get("$dynamicAnchor") == unquote(fragment)
        roots = {root for resource in self.resources for root in resource.ids.values()} - {()}
        if moves and len(self.resources) > 1:
            message = "a $dynamicRef cannot be followed in a schema that refers to files"
            place = pointer((*dynamic.tokens, "$dynamicRef"))
            self.problems.append(SchemaProblem(message, place, "copy the files in", dynamic.resource.file))
        if moves and roots:
            return False
        schema = dynamic.schema
        del schema["$dynamicRef"]
        reference = _reference(owner, path)
        if "$ref" in schema:
            schema["allOf"] = [*schema.get("allOf", ()), {"$ref": reference}]
        else:
            schema["$ref"] = reference
        return True

    def _index(self, resource: Resource) -> None:
        """Note the names that references may use: `$id` and `$anchor` of every schema in the document."""
        for tokens, schema in walk(resource.contents, self.dialect):
            root, uri = self._base(resource, tokens)
            if root == tokens and uri:
                resource.ids[uri.removesuffix("#")] = tokens
            for keyword in ("$anchor", "$dynamicAnchor"):
                name = schema.get(keyword)
                if isinstance(name, str):
                    resource.anchors[root, name] = tokens
            identifier = (
                None if self._is_reference(schema) else schema.get("$id")
            )  # draft-07 spells an anchor as an $id that is a fragment
            if isinstance(identifier, str) and identifier.startswith("#"):
                resource.anchors[root, identifier[1:]] = tokens

    def _base(self, resource: Resource, tokens: Tokens) -> tuple[Tokens, str]:
        """The nearest enclosing schema with an `$id` of its own, and its URI ("" if there is none)."""
        root: Tokens = ()
        uri = ""
        here: Any = resource.contents
        for index in range(len(tokens) + 1):
            identifier = here.get("$id") if isinstance(here, dict) and not self._is_reference(here) else None
            if isinstance(identifier, str) and not identifier.startswith("#"):
                root, uri = tokens[:index], urljoin(uri, identifier)
            if index < len(tokens):
                here = here[tokens[index]]
        return root, uri

    def _is_reference(self, schema: dict[str, Any]) -> bool:
        """Whether nothing in a schema counts but its `$ref`: so it is in draft-07."""
        return self.dialect == "draft-07" and isinstance(schema.get("$ref"), str)

    def _rewrite(self, resource: Resource, start: Tokens, document: Any) -> None:
        """Point every reference below `start` into the bundle, and those of targets that no keyword leads to."""
        found = [(resource, (*start, *tokens), schema) for tokens, schema in walk(document, self.dialect)]
        while found:
            resource, tokens, schema = found.pop()
            if id(schema) in self.done:
                continue
            self.done[id(schema)] = schema
            for keyword in ("$ref", "$dynamicRef"):
                if isinstance(schema.get(keyword), str) and (keyword == "$ref" or self.dialect == "2020-12"):
                    found.extend(self._followed(resource, tokens, schema, keyword))

    def _followed(
        self, resource: Resource, tokens: Tokens, schema: dict[str, Any], keyword: str
    ) -> list[tuple[Resource, Tokens, dict[str, Any]]]:
        """Follow one reference; the schemas that it leads to."""
        try:
            owner, path = self._target(resource, tokens, schema[keyword])
        except RefusedReference as refusal:
            message, hint = refusal.args
            place = pointer((*tokens, keyword))
            self.problems.append(SchemaProblem(message, place, hint, resource.file))
            return []
        if keyword == "$ref":
            schema["$ref"] = _reference(owner, path)
        else:
            self.dynamic.append(_Dynamic(resource, tokens, schema, schema[keyword], owner, path))
        target = lookup(owner.contents, tuple(str(token) for token in path))
        return [(owner, (*path, *more), sub) for more, sub in walk(target, self.dialect)]

    def _target(self, resource: Resource, tokens: Tokens, reference: str) -> tuple[Resource, Tokens]:
        """The document that a reference names, and the path in it."""
        address, _, fragment = reference.partition("#")
        root, uri = self._base(resource, tokens)
        if address:
            resource, root = self._resource(resource, address, uri)
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if (root, fragment) not in resource.anchors:
                names = [name for at, name in resource.anchors if at == root]
                raise RefusedReference(f"no $anchor {fragment!r} for {reference!r}", did_you_mean(fragment, names))
            return resource, resource.anchors[root, fragment]
        path = (*(str(t) for t in root), *parse_pointer(fragment))
        try:  # a pointer inside an embedded document starts at that document's root
            lookup(resource.contents, path)
        except KeyError:
            raise RefusedReference(f"nothing stands at {reference!r}", nearest(resource.contents, path)) from None
        return resource, _typed(resource.contents, path)

    def _resource(self, resource: Resource, address: str, uri: str) -> tuple[Resource, Tokens]:
        for known in self.resources:
            for candidate in (urljoin(uri, address), address):
                if candidate in known.ids:
                    return known, known.ids[candidate]
        if urlsplit(address).scheme or address.startswith("//"):
            raise RefusedReference(
                f"{address!r} is not fetched: only files of this project may be referred to", "copy the schema in"
            )
        loaded = self._load(resource, address)
        return loaded, ()

    def _load(self, resource: Resource, address: str) -> Resource:
        if resource.folder is None or self.root is None:
            raise RefusedReference(f"{address!r} names a file, and no folder is known to look in", "use #/$defs/...")
        path = Path(os.path.realpath(resource.folder / unquote(address)))  # unlike resolve(), takes a link to itself
        if not path.is_relative_to(self.root):
            raise RefusedReference(f"{address!r} lies outside the project", "move it under the project root")
        for known in self.resources:
            if known.file == path:
                return known
        if len(self.resources) > MAX_FILES:
            raise RefusedReference(f"more than {MAX_FILES} files are referred to", "")
        contents = read_schema(path, address)
        if "$schema" in contents and dialect_of(contents) != self.dialect:
            raise RefusedReference(f"{address!r} is written in another draft than the schema that uses it", "")
        loaded = Resource(contents, file=path, folder=path.parent, prefix=(self.keep, self._name(path)))
        self._index(loaded)
        self.resources.append(loaded)
        return loaded

    def _name(self, path: Path) -> str:
        taken = set(self.resources[0].contents.get(self.keep, {})) | {str(r.prefix[1]) for r in self.resources[1:]}
        base = re.sub(r"[^A-Za-z0-9_]+", "_", path.name.split(".")[0]) or "schema"
        return next(name for n in range(MAX_FILES * 10) if (name := base if n == 0 else f"{base}_{n}") not in taken)


def walk(document: Any, dialect: Dialect) -> Iterator[tuple[Tokens, dict[str, Any]]]:
    """Yield every schema object of `document` with its path: those at keywords, then those that only a `$ref` names."""
    seen: set[int] = set()
    stack: list[tuple[Tokens, Any]] = [((), document)]
    while stack:
        tokens, schema = stack.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield tokens, schema
        stack.extend(((*tokens, *path), child) for path, child in reversed(list(children(schema, dialect))))
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            path = parse_pointer(unquote(reference[1:]))
            try:
                stack.insert(0, (_typed(document, path), lookup(document, path)))
            except KeyError:
                continue


def _typed(document: Any, path: tuple[str, ...]) -> Tokens:
    """The path with numbers where it goes through lists."""
    tokens: list[str | int] = []
    here = document
    for token in path:
        tokens.append(int(token) if isinstance(here, list) else token)
        here = lookup(here, (token,))
    return tuple(tokens)
