#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""rst-check.py FILE...: check reStructuredText with docutils alone.

What the kernel's Sphinx adds to docutils is known here by name only, but the
documents and labels that the text refers to must exist.  Prints each finding
and exits with 1 if there was any.
"""
import os
import re
import sys

from docutils import core, nodes, utils
from docutils.parsers.rst import Directive, directives, roles
from docutils.readers import standalone

DOMAIN = ["c:func", "c:type", "c:struct", "c:macro", "c:member", "c:enum"]

findings = []
labels = set()


def find(path, line, text):
    findings.append(f"{path}:{line}: {text}")


class Known(Directive):
    """A directive whose options and content mean nothing to us."""
    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = {name: directives.unchanged for name in (
        "caption", "depth", "doc", "export", "functions", "identifiers",
        "internal", "language", "lines", "maxdepth", "no-identifiers",
        "numbered", "titlesonly")}

    def run(self):
        path = self.state.document.current_source
        if self.name == "toctree":
            for name in filter(None, map(str.strip, self.content)):
                check_document(path, self.lineno, name)
        elif self.name in ("kernel-doc", "literalinclude"):
            source = self.arguments[0]
            base = "." if self.name == "kernel-doc" else os.path.dirname(path)
            if not os.path.exists(os.path.join(base, source)):
                find(path, self.lineno, f"there is no {source}")
        return []


def check_document(path, line, name):
    """A name in a toctree or a :doc: must be a file beside this one."""
    if name.startswith("/"):
        target = os.path.join("Documentation", name[1:] + ".rst")
    else:
        target = os.path.join(os.path.dirname(path), name + ".rst")
    if not os.path.exists(target):
        find(path, line, f"there is no document {name}")


def known_role(name, rawtext, text, lineno, inliner, *_args):
    """The roles of Sphinx; documents and labels are looked up."""
    match = re.fullmatch(r".*<(.+)>", text, re.DOTALL)
    target = match.group(1) if match else text
    path = inliner.document.current_source
    if name == "doc":
        check_document(path, lineno, target)
    elif name == "ref" and target.lower() not in labels:
        find(path, lineno, f"there is no label {target}")
    return [nodes.literal(rawtext, text)], []


def check(path):
    """Have docutils parse a file and collect what it complains about."""
    with open(path, encoding="utf-8") as stream:
        text = stream.read()

    def report(message):
        if message["level"] > 1:
            find(path, message.get("line", 1), message.children[0].astext())

    class Reader(standalone.Reader):
        """Listens to the messages, which would go to stderr otherwise."""

        def new_document(self):
            document = utils.new_document(path, self.settings)
            document.reporter.attach_observer(report)
            return document

    core.publish_doctree(
        text, source_path=path, reader=Reader(), settings_overrides={
            "report_level": 5, "halt_level": 5,
            "file_insertion_enabled": False})


def main():
    for name in ("toctree", "kernel-doc", "literalinclude", "code-block",
                 "flat-table", "index", "only"):
        directives.register_directive(name, Known)
    for name in ["doc", "ref", "manpage", "command", "kbd", *DOMAIN]:
        roles.register_local_role(name, known_role)

    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as stream:
            labels.update(label.lower() for label in re.findall(
                r"^\.\. _([^:]+):$", stream.read(), re.MULTILINE))
    for path in sys.argv[1:]:
        check(path)
    for finding in sorted(set(findings)):
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
